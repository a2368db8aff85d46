-- Removes dead letters of a run. The run itself stays as it is.
-- KEYS clock
-- ARGV run instance_id ('' for all of the run's)
-- RETURNS how many were removed
--@include base

if ARGV[2] ~= '' then return redis.call('ZREM', B .. 'dead', ARGV[1] .. '|' .. ARGV[2]) end
local count = 0
for instance_id in string.gmatch(redis.call('HGET', B .. 'run:' .. ARGV[1], 'dead') or '', '[^\n]+') do
  count = count + redis.call('ZREM', B .. 'dead', ARGV[1] .. '|' .. instance_id)
end
return count
