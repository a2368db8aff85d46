-- Deletes a memory, with the turns beside it.
-- KEYS clock
-- ARGV memory
-- RETURNS 1, or 0: there was none
--@include base memory

local key, memory = open_memory(ARGV.memory)
redis.call('DEL', key)
write_beside('ZREM', 'memories', ARGV.memory)
return memory.first < memory.following and 1 or 0
