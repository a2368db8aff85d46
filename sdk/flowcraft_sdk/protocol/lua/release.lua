-- Hands a claimed node back unrun, so that another worker (or this one, later) takes it. Counts as no attempt.
-- KEYS clock
-- ARGV run instance_id fencing_token delay_ms
-- RETURNS {ok} | {stale|already}
--   A node that counts against a limit keeps its slot, but not in a paused queue.
--@include base limits run plan joins graph loops memory_usage notify closing run_end claimed_node

local id, instance_id, delay = ARGV.run, ARGV.instance_id, tonumber(ARGV.delay_ms)
local r, n = held(id, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return {n}
end
if leave_claim(r, instance_id, n) then
  node_event(r, 'h', instance_id, n.more)
  n.s = nil -- it has not begun
  local queue, limit = limit_in(queue_of(r, instance_id))
  if limit and delay <= 0 and not PAUSED[queue] then -- it keeps its slot, and what it took of the rate
    r.freed = nil
    put_node(r, instance_id, n, 'R', queue_of(r, instance_id))
    queue_node(r, instance_id, queue)
    redis.call('ZADD', B .. 'slots:' .. limit, 'XX', NOW, id .. '|' .. instance_id)
  else
    requeue(r, instance_id, n, delay)
  end
end
commit()
return {'ok'}
