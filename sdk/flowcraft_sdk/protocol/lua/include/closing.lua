-- How a run closes: what runs when nothing else of it does, before it ends. If it has not completed, the compensations of its completed
-- nodes run first, one after the other, the last completed one's first; then its `finally` nodes. Until then it has no terminal status.
-- `cl` is `-` in a run that has something to close with and has not begun to; then `OUTCOME|STAGE|NUMBER`: what it will end as; c while
-- compensations run, NUMBER being that which is compensated, and f while `finally` nodes do. `stop` is gone by then: these nodes run as others do.
-- `cn` counts the completed executions that have a compensation; `co:<n>` is `MARK|INSTANCE` of the n-th, the instance as in the history
-- (`pay`, `each[3]`, `body#2`), MARK being u (not compensated), r (its compensation runs), c (it has completed), f (it failed for good) or
-- x (it was cancelled). `cv:<n>` is its output where the run does not keep it, `cf:<n>` what its compensation failed with.

local closing_of, note_completed, close
do -- a script has 200 locals at most

-- How far a run has closed: {outcome, stage, number}; nil if it has not begun to.
function closing_of(r)
  local kept = get(r, 'cl')
  if not kept or kept == '-' then return nil end
  local outcome, stage, number = string.match(kept, '^([%a_]+)|([cf])|(%d+)$')
  if not TERMINAL[outcome or ''] then refuse_record(r.id, 'its field cl is wrong') end
  return {outcome = outcome, stage = stage, number = tonumber(number)}
end

local function put_closing(r, closing)
  put(r, 'cl', closing.outcome .. '|' .. closing.stage .. '|' .. string.format('%d', closing.number))
end

-- Notes that an execution has completed that has a compensation. `its`: iterations of the loops around it. Of one in a loop or a
-- batch the run does not keep the output.
function note_completed(r, instance_id, its, output)
  local number = string.format('%d', tonumber(get(r, 'cn') or 0) + 1)
  put(r, 'cn', number)
  put(r, 'co:' .. number, 'u|' .. (its ~= '' and (instance_id .. '#' .. its) or instance_id))
  if its ~= '' or item_of(instance_id) then put(r, 'cv:' .. number, output) end
end

-- What compensations and `finally` nodes read: `{"status", "error", "reason"}`.
local function put_outcome(r, outcome)
  local fine, failure = pcall(cjson.decode, get(r, 'f1') and get(r, 'f:' .. get(r, 'f1')) or 'null')
  local asked, request = pcall(cjson.decode, get(r, 'cx') or 'null')
  local error_ = cjson.null
  if fine and type(failure) == 'table' then
    error_ = {type = tostring(failure.type), message = tostring(failure.message), node = tostring(failure.node)}
  end
  local reason = asked and type(request) == 'table' and request.reason or cjson.null
  put_context(r, nil, '_outcome', cjson.encode({status = outcome, error = error_, reason = reason}))
end

-- Nothing of the run itself is active any more: what is left of its stop is cleared, as it keeps the closing nodes from running.
local function begin_closing(r, outcome)
  if r.stop then
    r.stop = false
    put(r, 'stop', false)
    drop_timer(r, 'g')
  end
  if get(r, 'dl') then drop_timer(r, 'd') end
  put_outcome(r, outcome)
  event(r, 'z', '', outcome)
  return {outcome = outcome, stage = 'c', number = outcome == 'completed' and 1 or tonumber(get(r, 'cn') or 0) + 1}
end

local ENDS = {C = 'c', K = 'c', F = 'f'}

-- The node, the completed instance and its item, by the number of the completed execution.
local function compensated(r, number)
  local instance = string.match(get(r, 'co:' .. number), '^%a|(.*)$')
  local owner, index = item_of(string.match(instance, '^([^#]+)'))
  local node = owner or string.match(instance, '^([^#]+)')
  return options_of(r, node).compensate, node, instance, index
end

-- A compensation has ended. One that failed for good does not keep the others from running.
local function note_compensation(r, closing)
  local number = string.format('%d', closing.number)
  local target, _, instance = compensated(r, number)
  local n = node_state(r, target)
  local mark = ENDS[n and n.s or ''] or 'x'
  put(r, 'co:' .. number, mark .. '|' .. instance)
  if mark ~= 'c' and closing.outcome == 'cancelled' then closing.outcome = 'failed' end
  if mark == 'f' then put(r, 'cf:' .. number, get(r, 'f:' .. target)) end
end

-- Makes a compensation ready. It may have run before, for another execution.
local function start_compensation(r, closing)
  local number = string.format('%d', closing.number)
  local target, node, instance, index = compensated(r, number)
  local n = node_state(r, target)
  if n then put(r, 'n:' .. target, 'P|0|' .. n.claims .. '|0|0') end
  put(r, 'f:' .. target, false)
  put(r, 'co:' .. number, 'r|' .. instance)
  put(r, 'ci:' .. target, get(r, 'cv:' .. number) or get(r, 'o:' .. node) or 'null')
  put_context(r, nil, '_compensates', cjson.encode({node = node, instance = instance, item = index and tonumber(index) or cjson.null}))
  put_closing(r, closing)
  event(r, 'm', target .. '#' .. number, instance)
  fire(r, target)
end

-- What the run ends as, given what it would end as without anything to close with; nil while something of that is left to run.
function close(r, outcome)
  if not get(r, 'cl') then return outcome end
  local finally = plan_field(r, 'meta').finally or {}
  local closing = closing_of(r)
  if not closing then
    if #finally == 0 and (outcome == 'completed' or not get(r, 'cn')) then return outcome end
    closing = begin_closing(r, outcome)
  elseif closing.stage == 'c' then
    note_compensation(r, closing)
  end
  if closing.stage == 'f' then return closing.outcome end
  if closing.number > 1 then
    closing.number = closing.number - 1
    start_compensation(r, closing)
    return nil
  end
  closing.stage, closing.number = 'f', 0
  put_outcome(r, closing.outcome)
  put_closing(r, closing)
  for _, node in ipairs(finally) do fire(r, node) end -- the linter allows 100 at most
  return r.active == 0 and closing.outcome or nil
end

end
