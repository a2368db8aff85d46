-- Gives a waiting node its answer: output and action. Applied once per signal id.
-- KEYS clock
-- ARGV run path signal_id action payload early
--   path: '' when exactly one node waits; payload: JSON; early: 1: keep it for a node that does not wait yet | 0
-- RETURNS {ok, path} | {kept, path} | {full, path, status}: one is kept for the node already | {duplicate, path} | {missing}
--   | {ended, status} | {not-waiting, status, waiting path ...}
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_stop waits

local signal_id, action, payload = ARGV.signal_id, ARGV.action, ARGV.payload
local to, refusal = addressee(ARGV.run, ARGV.path, signal_id, ARGV.early == '1')
if not to then return refusal end
local r, instance_id = to.run, to.instance_id
if not to.waits and get(r, 'ep:' .. instance_id) then return {'full', to.path, to.top.st} end

note_signal(to, signal_id)
node_event(r, 'i', instance_id, action)
if to.waits then
  put(r, 'v:' .. instance_id, payload)
  drop_timer(r, 'W', instance_id)
  ready_with(r, instance_id, to.n, {'signal', action})
else
  put(r, 'ep:' .. instance_id, payload)
  put(r, 'ea:' .. instance_id, action)
end
commit()
return {to.waits and 'ok' or 'kept', to.path}
