-- The test clock: moves the time that all scripts read. Leases of active workers move along, as if renewed meanwhile.
-- KEYS clock
-- ARGV ms keep_leases
--   keep_leases: 1 | 0
-- RETURNS the clock's offset in ms
--@include base limits run

if ARGV.keep_leases == '1' then
  for _, member in ipairs(redis.call('ZRANGE', B .. 'leases', 0, -1)) do
    redis.call('ZINCRBY', B .. 'leases', ARGV.ms, member)
  end
end
return redis.call('INCRBY', KEYS[1], ARGV.ms)
