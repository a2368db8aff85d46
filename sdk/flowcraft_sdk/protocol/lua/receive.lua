-- Returns the oldest message that is kept for a running node, and removes those that it has taken before.
-- KEYS clock
-- ARGV run instance_id fencing_token taken
--   taken: number of the last one that the node has taken, 0 for none
-- RETURNS {ok, number, payload} | {ok} if there is none | {stale|already}: the node is no longer the caller's
--@include base limits run plan joins graph loops memory_usage notify closing run_end claimed_node

allow_when_full()
local instance_id, taken = ARGV.instance_id, tonumber(ARGV.taken)
local r, n = held(ARGV.run, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return {n}
end
local kept = get(r, 'mq:' .. instance_id)
if not kept then return {'ok'} end
local first, next = string.match(kept, '^(%d+)|(%d+)$')
first, next = tonumber(first), tonumber(next)
for i = first, math.min(taken, next - 1) do put(r, 'm:' .. i .. ':' .. instance_id, false) end
first = math.max(first, math.min(taken + 1, next))
put(r, 'mq:' .. instance_id, first .. '|' .. next)
local payload = first < next and get(r, 'm:' .. first .. ':' .. instance_id)
commit()
if payload then return {'ok', tostring(first), payload} end
return {'ok'}
