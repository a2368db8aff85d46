-- Waiting nodes of a run and of its child runs. A node in a child run is named by its path: `subflow/wait`.

local MOST_WAITS, MOST_RUNS = 100, 1000
local MOST_SIGNALS = 10000 -- that a run remembers; the oldest is forgotten

local function is_wait(n)
  return n and n.s == 'W' and (n.more == 'signal' or n.more == 'webhook')
end

-- The active child run that a subflow node waits for, or nil.
local function child_of(r, instance_id, n)
  if not n or n.s ~= 'W' or n.more ~= 'subflow' then return nil end
  local child = load_related(get(r, 'w:' .. instance_id))
  if child and not TERMINAL[child.st] then return child end
end

-- The run and the node that a path names, however the node stands; nil when a subflow on it waits for no child.
-- A node whose own id holds a slash comes before a path into a subflow.
local function follow(r, path)
  if node_state(r, path) or plan_field(r, 'n:' .. path) then return r, path end
  local from = 1
  while true do
    local at = string.find(path, '/', from, true)
    if not at then return nil end
    local instance_id = string.sub(path, 1, at - 1)
    local child = child_of(r, instance_id, node_state(r, instance_id))
    if child then return follow(child, string.sub(path, at + 1)) end
    from = at + 1
  end
end

-- Paths of the nodes that wait for a signal, in this run and below it; a bounded number of them. Also the run and the node of
-- the first one.
local function waiting_paths(r)
  local found, pending, seen, first = {}, {{r, ''}}, 0, {}
  while #pending > 0 and #found < MOST_WAITS and seen < MOST_RUNS do
    local run, prefix = pending[1][1], pending[1][2]
    table.remove(pending, 1)
    seen = seen + 1
    each_node(run, function(instance_id, n)
      if is_wait(n) then
        if #found == 0 then first = {run, instance_id} end
        if #found < MOST_WAITS then found[#found + 1] = prefix .. instance_id end
        return
      end
      local child = child_of(run, instance_id, n)
      if child then pending[#pending + 1] = {child, prefix .. instance_id .. '/'} end
    end)
  end
  table.sort(found)
  return found, first[1], first[2]
end

-- Whether a node may still come to wait: it has not been decided, or a loop around it may begin another iteration.
local function may_wait(r, instance_id, n)
  if r.stop or closing_of(r) and not options_of(r, instance_id).closing then return false end
  if not n or n.s == 'P' or n.s == 'R' or n.s == 'L' or n.s == 'T' then return true end
  local outermost = (options_of(r, instance_id).loops or {})[1]
  return n.s ~= 'W' and outermost ~= nil and loop_record(r, outermost).closed == ''
end

-- Under which path a run knows a signal id: `sg:<id>` of a signal that this run was named for or that one of its own nodes took,
-- `sp:<id>` and a path of one that went to a node below it by another name. Nil if it knows none. The same id may have gone to
-- several nodes below, by the names of their own runs: the path decides which.
local function known_signal(r, signal_id, path)
  local seen = get(r, 'sg:' .. signal_id)
  if seen then return seen end
  if path == '' then return get(r, 'sp:' .. signal_id) or nil end
  return get(r, 'sp:' .. signal_id .. '\n' .. path) and path or nil
end

-- Makes room for one more signal id: `sq:<n>` are the fields of the latest ones, `sn` is how many there were.
local function remember(r, field)
  if get(r, field) then return end
  local number = tonumber(get(r, 'sn') or 0) + 1
  local slot = 'sq:' .. number % MOST_SIGNALS
  local oldest = get(r, slot)
  if oldest then
    put(r, oldest, false)
    local passed, path = string.match(oldest, '^(sp:[^\n]+)\n(.*)$')
    if passed and get(r, passed) == path then put(r, passed, false) end
  end
  put(r, slot, field)
  put(r, 'sn', number)
end

-- Notes that a signal has been taken, wherever it may be asked for again: in the run of the node, and in each run above it under
-- the path from there. So it is recognised by each of its names, whatever becomes of the runs between.
local function note_signal(to, signal_id)
  local run, path = to.run, to.instance_id
  while run do
    if run == to.run or run == to.top then
      remember(run, 'sg:' .. signal_id)
      put(run, 'sg:' .. signal_id, path)
    else
      local field = 'sp:' .. signal_id .. '\n' .. path
      remember(run, field)
      put(run, field, '')
      put(run, 'sp:' .. signal_id, path)
    end
    local node = run.par and get(run, 'pn') -- false: no node of its parent waits for it
    run = node and load_related(run.par)
    if run and TERMINAL[run.st] then return end
    path = node and node .. '/' .. path
  end
end

-- Finds the node that a signal is for. Returns {path, run, instance_id, node state, waits = whether it waits}, or a reply with the reason why there
-- is none: {missing} | {duplicate, path} | {ended, status} | {not-waiting, status, waiting path ...}.
local function addressee(id, path, signal_id, early)
  local r = load_run(id)
  if not r then return nil, {'missing'} end
  local seen = known_signal(r, signal_id, path)
  if seen then return nil, {'duplicate', seen} end
  if TERMINAL[r.st] then return nil, {'ended', r.st} end
  local run, instance_id
  if path == '' then
    local waiting
    waiting, run, instance_id = waiting_paths(r)
    if #waiting ~= 1 then return nil, {'not-waiting', r.st, unpack(waiting)} end -- MOST_WAITS at most
    path = waiting[1]
  else
    run, instance_id = follow(r, path)
  end
  if run and run ~= r then
    seen = get(run, 'sg:' .. signal_id)
    if seen then return nil, {'duplicate', string.sub(path, 1, #path - #instance_id) .. seen} end
  end
  local n = run and node_state(run, instance_id)
  if is_wait(n) then return {path = path, top = r, run = run, instance_id = instance_id, n = n, waits = true} end
  if early and run and plan_field(run, 'n:' .. instance_id) and may_wait(run, instance_id, n) then
    return {path = path, top = r, run = run, instance_id = instance_id, n = n, waits = false}
  end
  return nil, {'not-waiting', r.st, unpack((waiting_paths(r)))} -- MOST_WAITS at most
end
