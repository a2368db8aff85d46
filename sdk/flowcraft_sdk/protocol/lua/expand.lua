-- Adds nodes that a handler returned to its run, and parks the handler's node until all of them are done.
-- KEYS clock
-- ARGV run instance_id fencing_token action output limit input writes deletes more...
--   output: JSON of the handler's node, '' if it has none yet: its handler is called again once they have ended (`resumes` in their entries);
--   limit: dynamic nodes that a run may have; input: JSON that the node's fallback gets when one of them fails, '' without a fallback;
--   more: `writes` pairs key value, `deletes` keys, then for each node: id, plan entry (JSON, see include/plan.lua), definition (JSON)
-- RETURNS {ok} | {stale|already} | {stopping} (the node is cancelled) | {clash, id} | {too-many, how many}
--@include base limits run plan joins graph loops memory_usage notify closing run_end claimed_node

local id, instance_id = ARGV.run, ARGV.instance_id
local r, n = held(id, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return {n}
end
local writes, deletes = tonumber(ARGV.writes), tonumber(ARGV.deletes)
local first = ARGV.more + 2 * writes + deletes
local count_ = (#ARGV - first + 1) / 3
local total = tonumber(get(r, 'dyn') or 0) + count_
if total > tonumber(ARGV.limit) then return {'too-many', total} end
for at = first, #ARGV, 3 do
  local before = get(r, 'y:' .. ARGV[at])
  -- In a further iteration of its loop an owner may return the same ones again.
  if plan_field(r, 'n:' .. ARGV[at]) or (before and cjson.decode(before)[6].owner ~= instance_id) then return {'clash', ARGV[at]} end
end

if not leave_claim(r, instance_id, n) then
  commit()
  return {'stopping'}
end
for at = ARGV.more, ARGV.more - 1 + 2 * writes, 2 do put_context(r, instance_id, ARGV[at], ARGV[at + 1]) end
for at = ARGV.more + 2 * writes, first - 1 do put_context(r, instance_id, ARGV[at], false) end
if ARGV.output ~= '' then put(r, 'o:' .. instance_id, ARGV.output) end
if get(r, 'r:' .. instance_id) then put(r, 'r:' .. instance_id, false) end -- what it waited for before
if ARGV.input ~= '' then put(r, 'x:' .. instance_id .. '>fallback', ARGV.input) end
put(r, 'w:' .. instance_id, count_ .. '|' .. ARGV.action)
put(r, 'dyn', total)
park_node(r, instance_id, n, 'dynamic')
for at = first, #ARGV, 3 do
  local node = ARGV[at]
  put(r, 'y:' .. node, ARGV[at + 1])
  put(r, 'z:' .. node, ARGV[at + 2])
  local before, entry = node_state(r, node), entry_of(r, node)
  make_ready(r, node, {attempt = 1, claims = before and before.claims or 0, crashes = 0}, entry.queue)
  add_active(r, entry, 1)
end
commit()
return {'ok'}
