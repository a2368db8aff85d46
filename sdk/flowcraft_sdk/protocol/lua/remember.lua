-- Lays a turn beside a memory, until `settle_memory` joins it to it, or drops it.
-- KEYS clock
-- ARGV memory writer messages most_messages most_bytes keep_ms turn
--   writer: which execution of which node it is of, without a line break; messages: how many the turn has; the three bounds are those
--     that hold for the memory once the turn joins it
-- RETURNS 1, or 0: a turn of this writer is in the memory, or beside it
--@include base memory

local MOST_BESIDE = 100 -- turns of nodes that run at the same time
local key, memory = open_memory(ARGV.memory)
if has_turn_of(key, memory, ARGV.writer) then return 0 end
local writers = {}
for writer in string.gmatch(memory.beside, '[^\n]+') do writers[#writers + 1] = writer end
for _, writer in ipairs(writers) do
  if writer == ARGV.writer then return 0 end
end
writers[#writers + 1] = ARGV.writer
if #writers > MOST_BESIDE then redis.call('HDEL', key, 'p:' .. table.remove(writers, 1)) end
local bounds = ARGV.most_messages .. '\n' .. ARGV.most_bytes .. '\n' .. ARGV.keep_ms
redis.call('HSET', key, 'p:' .. ARGV.writer, bounds .. '\n' .. ARGV.messages .. '\n' .. ARGV.turn, 'beside', table.concat(writers, '\n'))
keep_memory(key, math.max(memory.expires, NOW + tonumber(ARGV.keep_ms)))
return 1
