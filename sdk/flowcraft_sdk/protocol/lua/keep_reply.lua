-- Keeps a reply of a model in the cache, in place of an earlier one to the same request; those that expire first make room.
-- KEYS clock
-- ARGV digest reply age_ms most_bytes
--   digest: of the request; reply: empty to take it out; age_ms: after which it goes by itself; most_bytes: of all replies in this partition
-- RETURNS 1, or 0: it was taken out, or is larger than all of them may be
--@include base

local EACH = 200 -- bytes that an entry takes besides its reply
local MOST_REMOVED = 1000
local index, sizes = B .. 'replies', B .. 'reply_sizes' -- digests by when they expire; their bytes, and `*` of all

local function forget(digest)
  redis.call('UNLINK', B .. 'reply:' .. digest)
  redis.call('ZREM', index, digest)
  local bytes = redis.call('HGET', sizes, digest)
  if not bytes then return end
  redis.call('HDEL', sizes, digest)
  redis.call('HINCRBY', sizes, '*', -(tonumber(bytes) or 0))
end

local over = redis.call('ZRANGEBYSCORE', index, '-inf', string.format('%.0f', NOW), 'LIMIT', 0, MOST_REMOVED)
for _, digest in ipairs(over) do forget(digest) end
forget(ARGV.digest)
local bytes, most, age = #ARGV.reply + EACH, tonumber(ARGV.most_bytes), tonumber(ARGV.age_ms)
if ARGV.reply == '' or bytes > most then return 0 end
local left = most - (tonumber(redis.call('HGET', sizes, '*')) or 0)
for _ = 1, MOST_REMOVED do
  local first = left < bytes and redis.call('ZRANGE', index, 0, 0)[1]
  if not first then break end
  forget(first)
  left = most - (tonumber(redis.call('HGET', sizes, '*')) or 0)
end
redis.call('SET', B .. 'reply:' .. ARGV.digest, string.format('%.0f|', NOW) .. ARGV.reply, 'PX', ARGV.age_ms)
redis.call('ZADD', index, string.format('%.0f', NOW + age), ARGV.digest)
redis.call('HSET', sizes, ARGV.digest, bytes)
redis.call('HINCRBY', sizes, '*', bytes)
for _, key in ipairs({index, sizes}) do -- they go with the last reply
  if redis.call('PTTL', key) < age then redis.call('PEXPIRE', key, ARGV.age_ms) end
end
return 1
