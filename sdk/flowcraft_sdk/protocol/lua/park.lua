-- Parks a claimed node until something outside it happens: a signal, a time, the items of its batch.
-- KEYS clock
-- ARGV run instance_id fencing_token kind due_ms details
--   kind: signal | timer | webhook | batch | model; due_ms: relative to now, '' for none; details: JSON; of a batch its input, which its fallback
--   gets when an item fails, or null
--   A node whose signal came before is ready again in the same commit.
-- RETURNS {ok} | {stale|already} | {stopping}
--@include base limits run plan joins graph loops memory_usage notify closing run_end claimed_node batch

local id, instance_id, kind = ARGV.run, ARGV.instance_id, ARGV.kind
local r, n = held(id, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return {n}
end
if not leave_claim(r, instance_id, n) then
  commit()
  return {'stopping'}
end
park_node(r, instance_id, n, kind)
local details = ARGV.details
if kind == 'batch' and details ~= 'null' then
  put(r, 'x:' .. instance_id .. '>fallback', details)
  details = 'null'
end
put(r, 'w:' .. instance_id, details)
local early = (kind == 'signal' or kind == 'webhook') and get(r, 'ep:' .. instance_id)
if early then
  put(r, 'v:' .. instance_id, early)
  ready_with(r, instance_id, node_state(r, instance_id), {'signal', get(r, 'ea:' .. instance_id) or ''})
  put(r, 'ep:' .. instance_id, false)
  put(r, 'ea:' .. instance_id, false)
elseif ARGV.due_ms ~= '' then
  set_timer(NOW + tonumber(ARGV.due_ms), 'W', id, instance_id)
end
if kind == 'batch' then batches().open(r, instance_id) end
commit()
return {'ok'}
