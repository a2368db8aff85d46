-- Retires plans that were replaced and that no run uses; retention removes them ten minutes later, if still nothing does.
-- KEYS clock
-- ARGV plans...
-- RETURNS how many were retired
--@include base streams removal

local count = 0
for _, plan in ipairs(ARGV) do
  local meta = redis.call('HGET', B .. 'plan:' .. plan, 'meta')
  if meta and retire_plan(plan, cjson.decode(meta).id) then count = count + 1 end
end
return count
