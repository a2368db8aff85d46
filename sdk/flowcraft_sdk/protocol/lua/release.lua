-- Hands a claimed node back unrun, so that another worker (or this one, later) takes it. Counts as no attempt.
-- KEYS clock
-- ARGV run instance_id fencing_token delay_ms
-- RETURNS {ok} | {stale|already}
--@include base run plan joins graph loops memory_usage notify run_end claimed_node

local id, instance_id, delay = ARGV.run, ARGV.instance_id, tonumber(ARGV.delay_ms)
local r, n = held(id, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return {n}
end
if leave_claim(r, instance_id, n) then
  node_event(r, 'h', instance_id, n.more)
  n.s = nil -- it has not begun
  requeue(r, instance_id, n, delay)
end
commit()
return {'ok'}
