-- How a run is made to stop. `stop` is why nothing starts any more: fail, cancel or timeout.

local function each_node(r, visit)
  local seen, names = {}, {}
  for _, field in ipairs(redis.call('HKEYS', r.k)) do
    if string.sub(field, 1, 2) == 'n:' then seen[field] = true; names[#names + 1] = string.sub(field, 3) end
  end
  for field in pairs(r.d) do
    if string.sub(field, 1, 2) == 'n:' and not seen[field] then names[#names + 1] = string.sub(field, 3) end
  end
  for _, instance_id in ipairs(names) do
    local n = node_state(r, instance_id)
    if n then visit(instance_id, n) end
  end
end

-- Stops a child of the run at hand; false if that cannot be, as its record cannot be read, or if it continues without its parent.
local function stop_related(child, stop)
  local fine, outcome = pcall(stop, child)
  if not fine then set_aside('run', child.id, outcome) end
  return fine and outcome ~= 'abandoned'
end

local abandon
do -- a script has 200 locals at most

-- A run continues without its parent: it is a run of its own then, that no node waits for.
local function leave_parent(r, why)
  if get(r, 'pn') then put(r, 'pn', false) end
  put(r, 'ab', why .. '|' .. string.format('%.0f', NOW))
  event(r, 'A', '', why)
end

-- Lets a child continue that was started to do so when its parent stops. Returns whether it continues. Its field `ab` is `-` before, then
-- `WHY|MS`: why is what the parent's stop is, or node if only the node was given up.
function abandon(r, child)
  local kept, instance_id = get(child, 'ab'), get(child, 'pn')
  if kept ~= '-' then return kept end
  if instance_id then
    node_event(r, 'a', instance_id, child.id)
  else
    event(r, 'a', '', child.id)
  end
  put(r, 'ab:' .. child.id, NOW)
  leave_parent(child, r.stop or 'node')
  return true
end

end

-- Stops the child runs that were started for a run, but by none of its nodes.
local function stop_runs_without_node(r, stop)
  if not get(r, 'kids') then return end
  for _, field in ipairs(redis.call('HKEYS', r.k)) do
    if string.sub(field, 1, 2) == 'k:' and get(r, field) == '' then
      local child = load_related(string.sub(field, 3))
      if child and not TERMINAL[child.st] then stop_related(child, stop) end
    end
  end
end

local function stop_child(r, child, grace, stop)
  if abandon(r, child) then return 'abandoned' end
  -- Its node takes no outcome any more: if it has compensations it ends as cancelled though all of it completes, so that it is undone.
  if get(child, 'pn') then put(child, 'gu', 1) end
  if closing_of(child) then return end -- it is at its end, and what closes it runs to its own
  if child.stop then return end -- the first reason counts
  -- A child's deadline is its parent's at the latest. If both have passed, it has timed out too, whichever timer comes first.
  if r.stop == 'timeout' and tonumber(get(child, 'dl') or NOW + 1) <= NOW then return stop(child, 'timeout', grace) end
  put(child, 'cx', cjson.encode({reason = 'its parent run ' .. r.id .. ' is stopping', at = NOW, grace = grace}))
  event(child, 'X', '', 'parent')
  stop(child, 'cancel', grace)
end

local stop_run

-- A run whose plan is no longer in Redis cannot continue: it fails as it stands, without looking at its graph.
local function lose_plan(r, instance_id)
  put(r, 'f:' .. instance_id, cjson.encode({type = 'PlanMissing', node = instance_id, attempt = 0, retryable = false, at = NOW,
    message = 'plan ' .. r.plan .. ' of blueprint ' .. r.bp .. ' is no longer in Redis; publish it again and start a new run'}))
  put(r, 'fn', 1)
  put(r, 'f1', instance_id)
  r.stop = 'fail'
  put(r, 'stop', 'fail')
  put(r, 'cl', false)
  each_node(r, function(node, n)
    local child = n.s == 'W' and n.more == 'subflow' and load_related(get(r, 'w:' .. node))
    if child then stop_related(child, function() if not abandon(r, child) then stop_run(child, 'cancel', 0) end end) end
    if n.s == 'R' or n.s == 'L' or n.s == 'T' or n.s == 'W' then
      unqueue(r, node, n)
      put_node(r, node, n, node == instance_id and 'F' or 'X')
    end
  end)
  stop_runs_without_node(r, function(child) if not abandon(r, child) then stop_run(child, 'cancel', 0) end end)
  r.active, r.parked, r.todo, r.work, r.touched = 0, 0, false, {}, {}
  put(r, 'todo', false)
  event(r, 'f', instance_id, 0)
  finish(r)
end

local force_stop
do -- a script has 200 locals at most

-- Whether a run is too large to be looked over in one call.
local function is_large(r)
  return redis.call('HLEN', r.k) > 8 * most_steps()
end

-- @fields page_item kind cursor grace
-- Looks a page of a large run's fields over. visit: called with each node; visit_child: with each run that was
-- started for it by none of its nodes.
local function visit_page(r, page_item, visit, visit_child)
  local page = redis.call('HSCAN', r.k, page_item.cursor, 'COUNT', math.ceil(most_steps() / 2))
  page_item.cursor = page[1]
  if page[1] ~= '0' then r.work[#r.work + 1] = page_item end
  for i = 1, #page[2], 2 do
    local field, value = page[2][i], page[2][i + 1]
    local kind = string.sub(field, 1, 2)
    if kind == 'n:' then
      if r.d[field] == nil then r.w[field] = value end
      local instance_id = string.sub(field, 3)
      local n = node_state(r, instance_id)
      if n then
        steps = steps + 2
        visit(instance_id, n)
      end
    elseif kind == 'k:' and value == '' then
      local child = load_related(string.sub(field, 3))
      if child and not TERMINAL[child.st] then stop_related(child, visit_child) end
    end
  end
end

-- Calls `visit` with the nodes that this call has changed: the pages of a large run do not show them as they are.
local function visit_changed(r, visit)
  local changed = {}
  for field in pairs(r.d) do
    if string.sub(field, 1, 2) == 'n:' then changed[#changed + 1] = string.sub(field, 3) end
  end
  for _, instance_id in ipairs(changed) do
    local n = node_state(r, instance_id)
    if n then visit(instance_id, n) end
  end
end

-- What a stop does to a node. Returns whether a worker runs it.
local function stop_node(r, instance_id, n, grace)
  if n.s == 'L' then return true end
  if (n.s == 'R' or n.s == 'T') and records_child(r, instance_id) then return end
  if n.s == 'W' and n.more == 'subflow' then
    local child = load_related(get(r, 'w:' .. instance_id))
    local stops = child and not TERMINAL[child.st]
    if not stops or not stop_related(child, function() return stop_child(r, child, grace, stop_run) end) then
      cancel_node(r, instance_id, n)
    end
  elseif n.s == 'R' or n.s == 'T' or n.s == 'W' then
    cancel_node(r, instance_id, n)
  end
end

WORK.x = function(r, page_item)
  local grace = page_item.grace
  r.stopping = true
  visit_page(r, page_item, function(instance_id, n) stop_node(r, instance_id, n, grace) end, function(child) return stop_child(r, child, grace, stop_run) end)
  r.stopping = nil
end

-- Stops a run: what has not begun is cancelled, workers are notified of what runs, children are stopped; the rest is for the grace timer.
stop_run = function(r, why, grace)
  if TERMINAL[r.st] or r.stop or closing_of(r) then return end
  if plan_gone(r) then return lose_plan(r, '') end
  r.stop, r.stopping = why, true
  put(r, 'stop', why)
  if r.st == 'scheduled' then
    drop_timer(r, 'b')
    note_undone(r)
  elseif get(r, 'pl') == 'w' then -- it has not begun
    note_undone(r)
  end
  if why ~= 'fail' then change_status(r, 'cancelling') end
  local is_running = false
  local function visit(instance_id, n) is_running = stop_node(r, instance_id, n, grace) or is_running end
  if is_large(r) then
    visit_changed(r, visit)
    r.work[#r.work + 1] = {'x', '0', grace}
    is_running = true
  else
    each_node(r, visit)
    stop_runs_without_node(r, function(child) return stop_child(r, child, grace, stop_run) end)
  end
  if is_running then notify_workers(r.id, why, r.cr) end
  r.stopping = nil
  maybe_finish(r)
  if r.stop and r.active > 0 then set_timer(NOW + grace, 'g', r.id) end
end

-- Of a run that was started by no node: one that continues without its parent has a grace of its own, if it is cancelled.
local function force_child(child)
  if not get(child, 'ab') then force_stop(child) end
end

local function end_node(r, instance_id, n)
  if (n.s == 'L' or n.s == 'R' or n.s == 'T') and records_child(r, instance_id) then return end
  if n.s == 'W' and n.more == 'subflow' then
    local child = load_related(get(r, 'w:' .. instance_id))
    if not child or not TERMINAL[child.st] and not stop_related(child, force_stop) then cancel_node(r, instance_id, n) end
  elseif n.s == 'L' or n.s == 'R' or n.s == 'T' or n.s == 'W' then
    cancel_node(r, instance_id, n)
  end
end

WORK.o = function(r, page_item)
  r.stopping = true
  visit_page(r, page_item, function(instance_id, n) end_node(r, instance_id, n) end, force_child)
  r.stopping = nil
end

-- The grace has ended: what still runs is fenced off and the run ends.
force_stop = function(r)
  if TERMINAL[r.st] or not r.stop then return end
  if plan_gone(r) then return lose_plan(r, '') end
  r.stopping = true
  if is_large(r) then
    visit_changed(r, function(instance_id, n) end_node(r, instance_id, n) end)
    r.work[#r.work + 1] = {'o', '0'}
  else
    each_node(r, function(instance_id, n) end_node(r, instance_id, n) end)
    stop_runs_without_node(r, force_child)
  end
  notify_workers(r.id, 'over', r.cr)
  r.stopping = nil
  put(r, 'forced', '1')
  maybe_finish(r)
end

end
