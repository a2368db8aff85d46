-- How a run ends, and what that means for its parent.

local finish

local function unqueue(r, instance_id, n)
  if n.s == 'R' then
    local queue, limit = limit_in(n.more)
    drop(r, 'ready:' .. queue, r.id .. '|' .. instance_id)
    if limit then
      drop(r, 'limited:' .. limit, r.id .. '|' .. instance_id)
      free_slot(r, instance_id)
    end
    for _, f in ipairs(r.fired) do if f.instance_id == instance_id then f.claimed = true end end
  elseif n.s == 'L' then
    drop_lease(r, instance_id)
  else
    drop_timer(r, n.s, instance_id)
  end
end

-- Parks a node until what it waits for comes. A node that waits for a child run counts as parked once the child is, see
-- `change_status`.
local function park_node(r, instance_id, n, kind)
  put_node(r, instance_id, n, 'W', kind)
  if kind ~= 'subflow' then r.parked = r.parked + 1 end
  node_event(r, 'w', instance_id, kind)
end

-- The reverse, before its next state is put.
local function unpark_node(r, n)
  if n.s == 'W' and n.more ~= 'subflow' then r.parked = r.parked - 1 end
end

-- Ends an active node as cancelled. Its child run, if it is still waiting, counts as parked no more.
local function cancel_node(r, instance_id, n)
  unqueue(r, instance_id, n)
  unpark_node(r, n)
  local child = n.s == 'W' and n.more == 'subflow' and load_related(get(r, 'w:' .. instance_id) or '')
  if child and child.st == 'waiting' then r.parked = r.parked - 1 end
  put_node(r, instance_id, n, 'X')
  node_event(r, 'x', instance_id)
  note_undone(r)
  add_active(r, entry_of(r, instance_id), -1)
end

local function maybe_finish(r)
  settle(r)
  if r.active == 0 and not r.stopping and not TERMINAL[r.st] then finish(r) end
end

-- Makes a node that waited ready, with the outcome of what it waited for attached.
local function ready_with(r, instance_id, n, attached)
  unpark_node(r, n)
  put(r, 'r:' .. instance_id, cjson.encode(attached))
  make_ready(r, instance_id, n, (limit_in(queue_of(r, instance_id)))) -- no handler is called, so no limit counts
end

-- Makes a node ready whose handler is called again, from its beginning: that counts against its limit.
local function resume(r, instance_id, n)
  unpark_node(r, n)
  put(r, 'r:' .. instance_id, cjson.encode({'resume'}))
  make_ready(r, instance_id, n, queue_of(r, instance_id))
end

-- Whether nothing waits for a dynamic node's outcome: the node that added it, or one above that, does not wait any more.
local function needless(r, instance_id)
  local owner = options_of(r, instance_id).owner
  while owner do
    local n = node_state(r, owner)
    if not n or n.s ~= 'W' or n.more ~= 'dynamic' then return true end
    owner = options_of(r, owner).owner
  end
  return false
end

-- A dynamic node is done: with the last one its owner, which waits for them, becomes ready with its own outcome attached.
-- `resumes`: it has none yet, and its handler is called again.
local function dynamic_done(r, owner, resumes)
  local n = node_state(r, owner)
  if not n or n.s ~= 'W' or n.more ~= 'dynamic' then return end
  local left, action = string.match(get(r, 'w:' .. owner), '^(%d+)|(.*)$')
  put(r, 'w:' .. owner, (left - 1) .. '|' .. action)
  if left ~= '1' then return end
  if not resumes then return ready_with(r, owner, n, {'dynamic', action}) end
  resume(r, owner, n)
end

-- Whether all that is left of a node is to record that its child has completed, and it has a compensation. A worker does that though
-- the run stops or the node was given up: only what is recorded is undone.
local function records_child(r, instance_id)
  if not options_of(r, instance_id).compensate then return false end
  local fine, attached = pcall(cjson.decode, get(r, 'r:' .. instance_id) or 'null')
  return fine and type(attached) == 'table' and attached[1] == 'child' and attached[3] == 'completed'
end

-- Gives a node the outcome of its child. `needless`: nothing waits for the node; then it is cancelled, unless there is something to undo.
local function take_child(p, instance_id, n, child_id, st, needless)
  if needless and not (st == 'completed' and options_of(p, instance_id).compensate) then
    cancel_node(p, instance_id, n)
    if not p.stopping then maybe_finish(p) end
    return
  end
  ready_with(p, instance_id, n, {'child', child_id, st})
end

-- A child run has ended: its parent's node becomes ready with the outcome attached, in this same commit.
local function resume_parent(child)
  local instance_id = get(child, 'pn') -- false: none of its parent's nodes waits for it
  local p = load_related(child.par, instance_id and {'n:' .. instance_id, 'w:' .. instance_id, 't:' .. instance_id})
  if not p or not instance_id or TERMINAL[p.st] then return end
  local n = node_state(p, instance_id)
  if not n or n.s ~= 'W' or get(p, 'w:' .. instance_id) ~= child.id then return end
  take_child(p, instance_id, n, child.id, child.st, p.stop or get(child, 'gu'))
end

local function change_status(r, st)
  local before = r.st
  if before == st then return end
  set_status(r, st)
  local instance_id = r.par and (st == 'waiting' or before == 'waiting') and get(r, 'pn')
  if not instance_id then return end
  local state, child = 'n:' .. instance_id, 'w:' .. instance_id
  local p = load_related(r.par, {state, child})
  if not p or string.sub(get(p, state) or '', 1, 1) ~= 'W' or get(p, child) ~= r.id then return end -- its node was given up
  p.parked = p.parked + (st == 'waiting' and 1 or -1)
end

local function outcome(r)
  local failed = tonumber(get(r, 'fn') or 0) > 0
  if r.stop == 'timeout' then return 'timed_out' end
  local undo = r.stop == 'cancel' and get(r, 'gu') and get(r, 'cn') -- what has completed is undone, as nothing takes its outcome
  if r.stop == 'cancel' and (undo or tonumber(get(r, 'nx') or 0) > 0) then return 'cancelled' end
  return (r.stop == 'fail' or failed) and 'failed' or 'completed'
end

finish = function(r)
  local ends_as = close(r, outcome(r))
  if not ends_as then return end -- something is left to run before
  change_status(r, ends_as)
  put(r, 'en', NOW)
  for instance_id in string.gmatch(r.mn or '', '[^\n]+') do drop_kept(r, instance_id) end -- of nodes that never began
  event(r, 'E', '', r.st)
  if get(r, 'dl') then drop_timer(r, 'd') end
  if r.stop then drop_timer(r, 'g') end
  if r.par then
    local fine, problem = pcall(resume_parent, r)
    if not fine then set_aside('run', r.par, problem) end
  end
  ended_now[#ended_now + 1] = r
end

-- Sets the status according to the active nodes: waiting when every active node is parked.
local function settle_status()
  local i = 1
  while i <= #run_order do
    local r = run_order[i]
    if r.active > 0 and (r.st == 'running' or r.st == 'waiting' or r.st == 'queued') then
      local parked = r.parked >= r.active
      if parked and r.st ~= 'waiting' then
        change_status(r, 'waiting')
        if r.par then i = 0 end
      elseif not parked and r.st == 'waiting' then
        change_status(r, 'running')
        if r.par then i = 0 end
      end
    end
    i = i + 1
  end
end

local function commit()
  settle_status()
  save_all()
  for _, r in ipairs(ended_now) do count_end(r.bp, r.st, tonumber(get(r, 'sr')) or r.cr) end
  write_counts()
  for _, r in ipairs(ended_now) do
    if not r.par and get(r, 'pl') then pass_on_place('left', r.id, r.cr) end
    notify_end(r.id, r.st, note_size(r.id, r.st, get(r, 'batches'), r.par), get(r, 'tok'))
  end
end
