-- Looks one run over for what should not be, and repairs what is safe to repair. Without `fix` it writes nothing.
-- KEYS clock
-- ARGV run fix
--   fix: 1 | 0
-- RETURNS kind subject fixed (1|0) for each defect, one after the other; {missing, '', 0} when there is no such run
--@include base run plan joins graph loops memory_usage notify run_end run_stop batch node_failure run_checks

if redis.call('EXISTS', B .. 'run:' .. ARGV.run) == 0 then return {'missing', '', 0} end
local found, fix = {}, ARGV.fix == '1'

local function defect(kind, subject, repair)
  found[#found + 1] = kind
  found[#found + 1] = subject
  found[#found + 1] = fix and repair and 1 or 0
  if fix and repair then repair() end
end

local whole, lost = mend_record(ARGV.run, fix, defect)
if not whole then return found end
local r = load_run(ARGV.run)
local active = not TERMINAL[r.st]
examine_indexes(r, defect)
examine_parent(r, defect)
if redis.call('EXISTS', B .. 'plan:' .. r.plan) == 0 then
  defect('plan-missing', r.plan, active and function() lose_plan(r, first_active(r) or '') end or nil)
elseif active then
  examine_counts(r, defect)
  examine_nodes(r, defect)
  examine_timers(r, defect)
  for _, instance_id in ipairs(lost) do fail_lost_node(r, instance_id) end
  if r.active == 0 and r.st ~= 'scheduled' then defect('nothing-live', '', function() end_stalled(r) end) end
end
if fix then commit() end
return found
