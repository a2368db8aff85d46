-- Has turns join a memory whose nodes have completed, and drops those of others. The oldest turns make room, each as a whole.
-- KEYS clock
-- ARGV memory pairs...
--   pairs: writer, and 1 if its node has completed, else 0
-- RETURNS how many have joined
--@include base memory

allow_when_full()
local key, memory = open_memory(ARGV.memory)
local first, following, messages, bytes = memory.first, memory.following, memory.messages, memory.bytes
local joined, done, most_messages, most_bytes, expires = 0, {}, nil, nil, nil
for i = ARGV.pairs, #ARGV, 2 do
  local writer = ARGV[i]
  local kept = redis.call('HGET', key, 'p:' .. writer)
  if kept then
    done[writer] = true
    redis.call('HDEL', key, 'p:' .. writer)
    if ARGV[i + 1] == '1' then
      local most, size, keep_ms, count, at = string.match(kept, '^(%d+)\n(%d+)\n(%d+)\n(%d+)\n()')
      local turn = string.sub(kept, at)
      redis.call('HSET', key, 't:' .. string.format('%.0f', following),
        count .. '\n' .. string.format('%.0f', NOW) .. '\n' .. writer .. '\n' .. turn)
      following, messages, bytes, joined = following + 1, messages + tonumber(count), bytes + #turn, joined + 1
      most_messages, most_bytes, expires = tonumber(most), tonumber(size), NOW + tonumber(keep_ms)
    end
  end
end
while joined > 0 and first < following - 1 and (messages > most_messages or bytes > most_bytes) do
  local field = 't:' .. string.format('%.0f', first)
  local count, at = string.match(redis.call('HGET', key, field) or '', '^(%d+)\n%d+\n[^\n]*\n()')
  if count then messages, bytes = messages - tonumber(count), bytes - #redis.call('HGET', key, field) + at - 1 end
  redis.call('HDEL', key, field)
  first = first + 1
end
if not next(done) then return 0 end
local beside = {}
for writer in string.gmatch(memory.beside, '[^\n]+') do
  if not done[writer] then beside[#beside + 1] = writer end
end
redis.call('HSET', key, 'beside', table.concat(beside, '\n'))
if joined == 0 then
  if first == following and not beside[1] then redis.call('DEL', key) end
  return 0
end
local function number(value) return string.format('%.0f', value) end
redis.call('HSET', key, 'first', number(first), 'next', number(following), 'messages', number(messages), 'bytes', number(bytes),
  'at', number(NOW))
keep_memory(key, expires)
list_memory(ARGV.memory, expires)
return joined
