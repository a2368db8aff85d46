-- Removes dead letters of a run. The run itself stays as it is.
-- KEYS clock
-- ARGV run instance_id
--   instance_id: '' for all of the run's
-- RETURNS how many were removed
--@include base

if ARGV.instance_id ~= '' then return redis.call('ZREM', B .. 'dead', ARGV.run .. '|' .. ARGV.instance_id) end
local count = 0
for instance_id in string.gmatch(redis.call('HGET', B .. 'run:' .. ARGV.run, 'dead') or '', '[^\n]+') do
  count = count + redis.call('ZREM', B .. 'dead', ARGV.run .. '|' .. instance_id)
end
return count
