-- Waiting nodes of a run and of its child runs. A node in a child run is named by the way to it: `subflow/wait`.

local MOST_WAITS, MOST_RUNS = 100, 1000

local function is_wait(n)
  return n and n.s == 'W' and (n.more == 'signal' or n.more == 'webhook')
end

-- The live child run that a subflow node waits for, or nil.
local function child_of(r, inst, n)
  if not n or n.s ~= 'W' or n.more ~= 'subflow' then return nil end
  local child = load_run(get(r, 'w:' .. inst))
  if child and not TERMINAL[child.st] then return child end
end

-- The run and the node that a path names, however the node stands; nil when a subflow on the way waits for no child.
-- A node whose own id holds a slash comes before a way into a subflow.
local function follow(r, path)
  if node_state(r, path) or plan_field(r, 'n:' .. path) then return r, path end
  local from = 1
  while true do
    local at = string.find(path, '/', from, true)
    if not at then return nil end
    local inst = string.sub(path, 1, at - 1)
    local child = child_of(r, inst, node_state(r, inst))
    if child then return follow(child, string.sub(path, at + 1)) end
    from = at + 1
  end
end

-- Paths of the nodes that wait for a signal, in this run and below it; a bounded number of them.
local function waiting_paths(r)
  local found, pending, seen = {}, {{r, ''}}, 0
  while #pending > 0 and #found < MOST_WAITS and seen < MOST_RUNS do
    local run, way = pending[1][1], pending[1][2]
    table.remove(pending, 1)
    seen = seen + 1
    each_node(run, function(inst, n)
      if is_wait(n) then
        if #found < MOST_WAITS then found[#found + 1] = way .. inst end
        return
      end
      local child = child_of(run, inst, n)
      if child then pending[#pending + 1] = {child, way .. inst .. '/'} end
    end)
  end
  table.sort(found)
  return found
end

-- Whether a node may still come to wait: it has not been decided, or a loop around it may go round again.
local function may_wait(r, inst, n)
  if r.stop then return false end
  if not n or n.s == 'P' or n.s == 'R' or n.s == 'L' or n.s == 'T' then return true end
  local outermost = (entry(r, inst)[6].loops or {})[1]
  return n.s ~= 'W' and outermost ~= nil and loop_record(r, outermost).closed == ''
end

-- Finds whom a signal is for. Returns {path, run, inst, node state, waits = whether it waits}, or a reply that says why there
-- is nobody: {missing} | {duplicate, path} | {ended, status} | {not-waiting, status, waiting path ...}.
local function addressee(id, path, signal_id, early)
  local r = load_run(id)
  if not r then return nil, {'missing'} end
  local seen = get(r, 'sg:' .. signal_id)
  if seen then return nil, {'duplicate', seen} end
  if TERMINAL[r.st] then return nil, {'ended', r.st} end
  if path == '' then
    local waiting = waiting_paths(r)
    if #waiting ~= 1 then return nil, {'not-waiting', r.st, unpack(waiting)} end
    path = waiting[1]
  end
  local run, inst = follow(r, path)
  if run and run ~= r then
    seen = get(run, 'sg:' .. signal_id)
    if seen then return nil, {'duplicate', path} end
  end
  local n = run and node_state(run, inst)
  if is_wait(n) then return {path = path, top = r, run = run, inst = inst, n = n, waits = true} end
  if early and run and plan_field(run, 'n:' .. inst) and may_wait(run, inst, n) then
    return {path = path, top = r, run = run, inst = inst, n = n, waits = false}
  end
  return nil, {'not-waiting', r.st, unpack(waiting_paths(r))}
end
