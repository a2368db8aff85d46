-- Looks at limits of concurrent runs that runs wait for, in case they allow more than before, or a call had more to do than one does.
-- KEYS clock
-- ARGV count
--   count: of limits that are looked at, at most
-- RETURNS how many runs have a place and are to begin
--@include base places

for _, name in ipairs(redis.call('ZRANGEBYSCORE', B .. 'waited_for', '-inf', NOW, 'LIMIT', 0, ARGV.count)) do
  redis.call('ZADD', B .. 'waited_for', NOW + 1000, name)
  admit_to(name)
end
return redis.call('ZCARD', B .. 'admitted')
