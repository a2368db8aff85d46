-- Hands a claimed node back unrun, so that another worker (or this one, later) takes it. Counts as no attempt.
-- KEYS clock
-- ARGV run inst fence delay_ms
-- RETURNS {ok} | {stale|already}
--@include base run joins graph loops measuring ending claiming

local id, inst, delay = ARGV[1], ARGV[2], tonumber(ARGV[4])
local r, n = held(id, inst, tonumber(ARGV[3]))
if not r then
  commit()
  return {n}
end
drop(r, 'leases', id .. '|' .. inst)
local queue = entry(r, inst)[5]
if r.stop then
  cancel_node(r, inst, n)
  maybe_finish(r)
else
  node_event(r, 'h', inst, n.more)
  n.s = nil -- it has not begun
  put_node(r, inst, n, delay > 0 and 'T' or 'R', queue)
  if delay > 0 then
    redis.call('ZADD', B .. 'timers', NOW + delay, 'T|' .. id .. '|' .. inst)
  else
    r.fired[#r.fired + 1] = {inst = inst, queue = queue}
  end
end
commit()
return {'ok'}
