-- Removes a run, without a trace, that was started, has no place among the concurrent runs, and is refused one.
-- KEYS clock
-- ARGV run created
--   created: when the run was, in ms
-- RETURNS 1, or 0 if there is no such run that waits for a place
--@include base removal

local k = B .. 'run:' .. ARGV.run
local state = redis.call('HMGET', k, 'cr', 'pl', 'st', 'bp', 'tags', 'plan')
redis.call('ZREM', B .. 'unplaced', ARGV.run .. '|' .. ARGV.created)
if state[1] ~= ARGV.created or state[2] ~= 'w' or TERMINAL[state[3]] then return 0 end
remove_from_indexes(ARGV.run, state[3], state[4], state[5])
redis.call('ZREM', B .. 'timers', timer_of('d', ARGV.run))
redis.call('UNLINK', k, B .. 'events:' .. ARGV.run)
write_beside('HINCRBY', 'plans', state[6], -1)
retire_plan(state[6], state[4])
return 1
