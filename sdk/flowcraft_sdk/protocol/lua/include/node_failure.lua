-- A node that failed for good: to its fallback, or to the end of the run.

local fail_node
do -- a script has 200 locals at most

local function mark_failed(r, instance_id, n)
  put_node(r, instance_id, n, 'F')
  put(r, 'fn', tonumber(get(r, 'fn') or 0) + 1)
  if not get(r, 'f1') then put(r, 'f1', instance_id) end
  add_active(r, entry_of(r, instance_id), -1)
end

-- What failed nodes do to their run: it stops, or their edges are failed and other branches continue. So it is with a run that closes:
-- what it ends as is known by then.
local function fail_run(r, failed)
  if plan_field(r, 'meta').onFailure ~= 'continue' and not closing_of(r) then
    return stop_run(r, 'fail', tonumber(setting('cancelGrace', '30000')))
  end
  for _, instance_id in ipairs(failed) do r.work[#r.work + 1] = {'e', string.match(instance_id, '^([^%[]+)'), 'f', 1, 1} end
end

-- No further items of a batch begin.
local function close_batch(r, owner)
  local b = batches().record(r, owner)
  b.limit = 0
  batches().put(r, owner, b)
end

-- Cancels a node whose outcome nothing waits for any more, and stops its child run. If it has a compensation it waits until that has
-- ended: what has completed is recorded, so that it is undone.
local function give_up(r, instance_id, n)
  if records_child(r, instance_id) then return end
  local child = n.s == 'W' and n.more == 'subflow' and load_related(get(r, 'w:' .. instance_id))
  local waits = child and options_of(r, instance_id).compensate
  if not waits then cancel_node(r, instance_id, n) end
  if not child or TERMINAL[child.st] then return end
  local stops = stop_related(child, function() return stop_child(r, child, tonumber(setting('cancelGrace', '30000')), stop_run) end)
  if waits and not stops then cancel_node(r, instance_id, n) end
end

-- A failed dynamic node fails its owner, which waits for it; one whose handler is called again sees the failure there. What the owner added besides, and what that added, is cancelled
-- as far as no worker runs it; what runs finishes, and its outcome changes nothing.
local function fail_owner(r, owner, fail)
  local n = node_state(r, owner)
  if not n or n.s ~= 'W' or n.more ~= 'dynamic' then return end
  unpark_node(r, n)
  fail(owner, n)
  if r.stop then return end
  each_node(r, function(instance_id, other)
    if (other.s ~= 'R' and other.s ~= 'T' and other.s ~= 'W') or not needless(r, instance_id) then return end
    give_up(r, instance_id, other)
    if other.s == 'W' and other.more == 'batch' then close_batch(r, instance_id) end
  end)
end

-- A failed item fails the `map` that waits for it; items that have not begun, and those with child runs, are cancelled; running ones finish, and their outcomes change nothing.
local function fail_map(r, owner, fail)
  local n = node_state(r, owner)
  if not n or n.s ~= 'W' or n.more ~= 'batch' then return end
  local prefix = owner .. '['
  each_node(r, function(instance_id, item)
    if string.sub(instance_id, 1, #prefix) ~= prefix then return end
    if item.s == 'R' or item.s == 'T' or item.s == 'W' then give_up(r, instance_id, item) end
  end)
  close_batch(r, owner)
  unpark_node(r, n)
  fail(owner, n)
end

-- `input` is what the fallback gets as its own input, nil if it was stored before, false if it is not known here: then the worker
-- that claims the fallback finds out. `alone`: no fallback, whatever the plan holds.
fail_node = function(r, instance_id, n, failure, input, alone)
  local entry = entry_of(r, instance_id)
  put(r, 'f:' .. instance_id, failure)
  node_event(r, 'f', instance_id, n.attempt .. '|' .. brief(failure))
  local owner = string.match(instance_id, '^(.+)%[%d+%]$')
  if owner and not r.stop and not entry.options.gather then
    put_node(r, instance_id, n, 'F')
    add_active(r, entry, -1)
    fail_map(r, owner, function(node, state) fail_node(r, node, state, failure, nil, alone) end)
    return maybe_finish(r)
  end
  if entry.options.owner and not r.stop then
    put_node(r, instance_id, n, 'F')
    add_active(r, entry, -1)
    if entry.options.resumes then
      dynamic_done(r, entry.options.owner, true)
      return maybe_finish(r)
    end
    fail_owner(r, entry.options.owner, function(node, state) fail_node(r, node, state, failure, nil, alone) end)
    return maybe_finish(r)
  end
  local edge = entry.options.fallback
  if edge and not alone and not r.stop and not owner then
    local fb = node_state(r, edge.target)
    if not fb or fb.s ~= 'F' then
      park_node(r, instance_id, n, 'fallback')
      if input ~= nil then put(r, 'x:' .. instance_id .. '>fallback', input) end
      if fb and (fb.s == 'C' or fb.s == 'K') then
        ready_with(r, instance_id, node_state(r, instance_id),
                   {'fallback', edge.target, get(r, 'a:' .. edge.target) or ''})
      else
        decide(r, edge, 't')
      end
      return maybe_finish(r)
    end
  end
  mark_failed(r, instance_id, n)
  local failed, i = {instance_id}, 1
  while failed[i] do -- what it was to stand in for has failed as well, and so on
    for _, source in ipairs(options_of(r, failed[i]).fallbackOf or {}) do
      local waiting = node_state(r, source)
      if waiting and waiting.s == 'W' and waiting.more == 'fallback' then
        unpark_node(r, waiting)
        mark_failed(r, source, waiting)
        node_event(r, 'f', source, waiting.attempt .. '|' .. brief(get(r, 'f:' .. source) or ''))
        failed[#failed + 1] = source
      end
    end
    i = i + 1
  end
  fail_run(r, failed)
  maybe_finish(r)
end

end
