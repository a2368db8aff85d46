-- Parks a claimed node until something outside it happens: a signal, a time, the items of its batch.
-- KEYS clock
-- ARGV run inst fence kind (signal|timer|webhook|batch) due_ms ('' for none: relative to now) details (JSON; of a batch
--   its input, which its fallback gets when an item fails, or null)
--   A node whose signal came before is ready again in the same commit.
-- RETURNS {ok} | {stale|already} | {stopping}
--@include base run joins graph loops measuring ending claiming batch

local id, inst, kind = ARGV[1], ARGV[2], ARGV[4]
local r, n = held(id, inst, tonumber(ARGV[3]))
if not r then
  commit()
  return {n}
end
drop(r, 'leases', id .. '|' .. inst)
if r.stop or needless(r, inst) then
  cancel_node(r, inst, n)
  maybe_finish(r)
  commit()
  return {'stopping'}
end
put_node(r, inst, n, 'W', kind)
r.park = r.park + 1
local details = ARGV[6]
if kind == 'batch' and details ~= 'null' then
  put(r, 'x:' .. inst .. '>fallback', details)
  details = 'null'
end
put(r, 'w:' .. inst, details)
node_event(r, 'w', inst, kind)
local early = (kind == 'signal' or kind == 'webhook') and get(r, 'ep:' .. inst)
if early then
  put(r, 'v:' .. inst, early)
  ready_with(r, inst, node_state(r, inst), {'signal', get(r, 'ea:' .. inst) or ''})
  put(r, 'ep:' .. inst, false)
  put(r, 'ea:' .. inst, false)
elseif ARGV[5] ~= '' then
  redis.call('ZADD', B .. 'timers', NOW + tonumber(ARGV[5]), 'W|' .. id .. '|' .. inst)
end
if kind == 'batch' then batches().open(r, inst) end
commit()
return {'ok'}
