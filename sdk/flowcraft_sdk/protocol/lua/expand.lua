-- Adds nodes that a handler returned to its run, and parks the handler's node until all of them are done.
-- KEYS clock
-- ARGV run instance_id fencing_token action output limit (dynamic nodes that a run may have) input (JSON, what the node's fallback gets when
--   one of them fails; '' without a fallback) writes deletes, then
--   `writes` pairs key value, `deletes` keys, then for each node: id, plan entry (JSON, see include/graph.lua), definition (JSON)
-- RETURNS {ok} | {stale|already} | {stopping} (the node is cancelled) | {clash, id} | {too-many, how many}
--@include base run joins graph loops memory_usage run_end claimed_node

local id, instance_id = ARGV[1], ARGV[2]
local r, n = held(id, instance_id, ARGV[3])
if not r then
  commit()
  return {n}
end
local writes, deletes = tonumber(ARGV[8]), tonumber(ARGV[9])
local first = 10 + 2 * writes + deletes
local count_ = (#ARGV - first + 1) / 3
local total = tonumber(get(r, 'dyn') or 0) + count_
if total > tonumber(ARGV[6]) then return {'too-many', total} end
for at = first, #ARGV, 3 do
  local before = get(r, 'y:' .. ARGV[at])
  -- In a further iteration of its loop an owner may return the same ones again.
  if plan_field(r, 'n:' .. ARGV[at]) or (before and cjson.decode(before)[6].owner ~= instance_id) then return {'clash', ARGV[at]} end
end

drop(r, 'leases', id .. '|' .. instance_id)
if r.stop or needless(r, instance_id) then
  cancel_node(r, instance_id, n)
  maybe_finish(r)
  commit()
  return {'stopping'}
end
for at = 10, 9 + 2 * writes, 2 do put_context(r, ARGV[at], ARGV[at + 1]) end
for at = 10 + 2 * writes, first - 1 do put_context(r, ARGV[at], false) end
put(r, 'o:' .. instance_id, ARGV[5])
if ARGV[7] ~= '' then put(r, 'x:' .. instance_id .. '>fallback', ARGV[7]) end
put(r, 'w:' .. instance_id, count_ .. '|' .. ARGV[4])
put(r, 'dyn', total)
put_node(r, instance_id, n, 'W', 'dynamic')
r.park = r.park + 1
node_event(r, 'w', instance_id, 'dynamic')
for at = first, #ARGV, 3 do
  local node = ARGV[at]
  put(r, 'y:' .. node, ARGV[at + 1])
  put(r, 'z:' .. node, ARGV[at + 2])
  local before, e = node_state(r, node), entry(r, node)
  put_node(r, node, {attempt = 1, claims = before and before.claims or 0, crashes = 0}, 'R', e[5])
  add_live(r, e, 1)
  r.fired[#r.fired + 1] = {instance_id = node, queue = e[5]}
end
commit()
return {'ok'}
