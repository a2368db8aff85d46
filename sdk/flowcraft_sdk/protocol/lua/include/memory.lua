-- Conversations that agents keep between runs. A turn is laid beside its memory before the node that it is of completes, under
-- the name of its writer, and joins it once that node has completed: run and memory lie in different partitions, and the run's
-- record alone has whether the node has. What is in a turn is opaque here.

-- What is read of a memory: number of the first turn, and of the next one to come, messages and bytes of all, when it expires
-- (ms), writers of the turns beside it, one a line, oldest first.
-- @fields memory first following messages bytes expires beside

local MOST_TURNS = 1000 -- as many as messages at most: each has one

local function memory_key(id) return B .. 'memory:' .. id end

-- A memory; one that has expired is deleted, and empty.
local function open_memory(id)
  local key = memory_key(id)
  local memory = redis.call('HMGET', key, 'first', 'next', 'messages', 'bytes', 'expires', 'beside')
  if (tonumber(memory.expires) or math.huge) <= NOW then
    redis.call('DEL', key)
    write_beside('ZREM', 'memories', id)
    memory = {}
  end
  -- What something else has written counts as if it were not there.
  memory.first, memory.following = tonumber(memory.first) or 1, tonumber(memory.following) or 1
  local turns = memory.following - memory.first
  if not (turns >= 0 and turns <= MOST_TURNS and memory.first % 1 == 0 and memory.first < 2 ^ 53) then memory.first, memory.following = 1, 1 end
  memory.messages, memory.bytes = tonumber(memory.messages) or 0, tonumber(memory.bytes) or 0
  memory.expires, memory.beside = tonumber(memory.expires) or 0, memory.beside or ''
  if not (memory.expires >= 0 and memory.expires < 2 ^ 53) then memory.expires = 0 end
  return key, memory
end

-- Keeps a memory until then. Redis deletes it; by the deployment's clock, which tests move, it expires at the same time.
local function keep_memory(key, expires)
  redis.call('HSET', key, 'expires', string.format('%.0f', expires))
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(1, expires - NOW)))
end

-- Lists a memory, and drops others from the list that have expired.
local function list_memory(id, expires)
  if not write_beside('ZADD', 'memories', expires, id) then return end
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', B .. 'memories', '-inf', NOW, 'LIMIT', 0, 100)) do
    redis.call('ZREM', B .. 'memories', other)
  end
end

-- Whether a turn of this writer is in the memory already.
local function has_turn_of(key, memory, writer)
  for number = memory.first, memory.following - 1 do
    local turn = redis.call('HGET', key, 't:' .. string.format('%.0f', number))
    if turn and string.match(turn, '^%d+\n%d+\n([^\n]*)\n') == writer then return true end
  end
  return false
end
