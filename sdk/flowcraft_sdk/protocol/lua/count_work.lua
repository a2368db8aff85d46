-- Adds to what handlers have done, in the first partition. A call that is sent again adds nothing.
-- KEYS clock
-- ARGV worker number counts...
--   number: grows with each call of the worker; counts: field of the hash `work` and by how much it grows, for each
-- RETURNS 1, or 0 when the call was made before
--@include base

local MOST = 20000 -- fields; what is beyond counts without its handler

allow_when_full()
local key, known = B .. 'worker:' .. ARGV.worker, tonumber(redis.call('HGET', B .. 'worker:' .. ARGV.worker, 'counted') or 0)
if tonumber(ARGV.number) <= known then return 0 end
redis.call('HSET', key, 'counted', ARGV.number)
-- One that was removed after a day of silence, and counts all the same, leaves nothing for ever.
if not write_beside('ZSCORE', 'workers', ARGV.worker) then redis.call('PEXPIRE', key, 86400000) end
for i = ARGV.counts, #ARGV, 2 do
  local field, count = ARGV[i], ARGV[i + 1]
  if tostring(write_beside('HINCRBY', 'work', field, count)) == count and (write_beside('HLEN', 'work') or 0) > MOST then
    write_beside('HDEL', 'work', field)
    write_beside('HINCRBY', 'work', string.match(field, '^%S+ %S* '), count)
  end
end
return 1
