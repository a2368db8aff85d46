-- Puts a memory of a backup in its place, unless there is one.
-- KEYS clock
-- ARGV memory expires fields...
--   expires: ms; fields: pairs field value
-- RETURNS 1; 0: there is one already, or it has expired
--@include base memory

local key, memory = open_memory(ARGV.memory)
local expires = tonumber(ARGV.expires)
if memory.first < memory.following or expires <= NOW then return 0 end
write_fields_of(key, part_of(ARGV, ARGV.fields))
keep_memory(key, math.max(memory.expires, expires))
list_memory(ARGV.memory, math.max(memory.expires, expires))
return 1
