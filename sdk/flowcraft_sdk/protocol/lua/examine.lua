-- Looks one run over for what should not be, and repairs what is safe to repair. Without `fix` it writes nothing.
-- KEYS clock
-- ARGV run fix mode active parked
--   fix: 1 | 0
--   mode: ask | whole | counted: its nodes were looked over by `examine_piece`, which found so many active and parked ones
-- RETURNS kind subject fixed (1|0) for each defect, one after the other; {missing, '', 0} when there is no such run; in its place
--   {large, '', 0} when it was asked about a run with many fields, {changed, '', 0} when it does not have so many nodes
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_stop batch node_failure run_checks

if redis.call('EXISTS', B .. 'run:' .. ARGV.run) == 0 then return {'missing', '', 0} end
local found, fix, counted = {}, ARGV.fix == '1', ARGV.mode == 'counted'
if ARGV.mode == 'ask' then
  local fields = redis.pcall('HLEN', B .. 'run:' .. ARGV.run)
  if type(fields) == 'number' and fields > 2000 then return {'large', '', 0} end
end

local function defect(kind, subject, repair)
  found[#found + 1] = kind
  found[#found + 1] = subject
  found[#found + 1] = fix and repair and 1 or 0
  if fix and repair then repair() end
end

local whole, lost = mend_record(ARGV.run, fix, defect, counted)
if not whole then return found end
local r = load_run(ARGV.run)
local active = not TERMINAL[r.st]
if counted and active and (r.active - (r.todo and 1 or 0) ~= tonumber(ARGV.active) or r.parked ~= tonumber(ARGV.parked)) then
  return {'changed', '', 0}
end
examine_indexes(r, defect)
examine_parent(r, defect)
if not counted then examine_steps(r, defect) end
if redis.call('EXISTS', B .. 'plan:' .. r.plan) == 0 then
  defect('plan-missing', r.plan, active and function() lose_plan(r, first_active(r) or '') end or nil)
elseif active then
  if not counted then
    examine_counts(r, defect)
    each_node(r, function(instance_id, n) examine_node(r, instance_id, n, defect) end)
  end
  examine_timers(r, defect)
  for _, instance_id in ipairs(lost) do fail_lost_node(r, instance_id) end
  if get(r, 'pl') == 'w' then
    if r.st ~= 'scheduled' and not redis.call('ZSCORE', B .. 'unplaced', r.id .. '|' .. string.format('%d', r.cr)) then
      defect('place-unasked', '', function() pass_on_place('unplaced', r.id, r.cr) end)
    end
  elseif r.active == 0 and r.st ~= 'scheduled' then
    defect('nothing-live', '', function() end_stalled(r) end)
  end
end
if fix then commit() end
return found
