-- Removes plans that were replaced and that no run uses. A plan that a run still uses goes with the last of its runs.
-- KEYS clock
-- ARGV plan ...
-- RETURNS how many were removed
--@include base removing

local count = 0
for _, plan in ipairs(ARGV) do
  local meta = redis.call('HGET', B .. 'plan:' .. plan, 'meta')
  if meta and retire_plan(plan, cjson.decode(meta).id) then count = count + 1 end
end
return count
