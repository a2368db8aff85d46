-- Hands a claimed node back unrun, so that another worker (or this one, later) takes it. Counts as no attempt.
-- KEYS clock
-- ARGV run instance_id fencing_token delay_ms
-- RETURNS {ok} | {stale|already}
--@include base run plan joins graph loops memory_usage run_end claimed_node

local id, instance_id, delay = ARGV.run, ARGV.instance_id, tonumber(ARGV.delay_ms)
local r, n = held(id, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return {n}
end
drop(r, 'leases', id .. '|' .. instance_id)
local queue = queue_of(r, instance_id)
if r.stop then
  cancel_node(r, instance_id, n)
  maybe_finish(r)
else
  node_event(r, 'h', instance_id, n.more)
  n.s = nil -- it has not begun
  put_node(r, instance_id, n, delay > 0 and 'T' or 'R', queue)
  if delay > 0 then
    redis.call('ZADD', B .. 'timers', NOW + delay, 'T|' .. id .. '|' .. instance_id)
  else
    r.fired[#r.fired + 1] = {instance_id = instance_id, queue = queue}
  end
end
commit()
return {'ok'}
