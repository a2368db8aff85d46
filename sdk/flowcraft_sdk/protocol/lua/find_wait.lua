-- Returns which node a signal would reach, so that it can be checked before it is sent. Changes nothing.
-- KEYS clock
-- ARGV run path signal_id early
--   path: '' when exactly one node waits; early: 1: the node need not wait yet | 0
-- RETURNS {found, path, run, instance_id, plan, details of the wait or nil} | {duplicate, path} | {missing} | {ended, status}
--   | {not-waiting, status, waiting path ...}
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_stop waits

local to, refusal = addressee(ARGV.run, ARGV.path, ARGV.signal_id, ARGV.early == '1')
if not to then return refusal end
return {'found', to.path, to.run.id, to.instance_id, to.run.plan, to.waits and get(to.run, 'w:' .. to.instance_id)}
