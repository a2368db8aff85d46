-- How a run stops and ends, and what that means for its parent and its children.
-- `stop` says why nothing starts any more: fail, cancel or timeout.

local finish, stop_run

local function each_node(r, visit)
  local seen, names = {}, {}
  for _, field in ipairs(redis.call('HKEYS', r.k)) do
    if string.sub(field, 1, 2) == 'n:' then seen[field] = true; names[#names + 1] = string.sub(field, 3) end
  end
  for _, field in ipairs(r.order) do
    if string.sub(field, 1, 2) == 'n:' and not seen[field] then names[#names + 1] = string.sub(field, 3) end
  end
  for _, inst in ipairs(names) do
    local n = node_state(r, inst)
    if n then visit(inst, n) end
  end
end

local function unqueue(r, inst, n)
  local member = r.id .. '|' .. inst
  if n.s == 'R' then
    redis.call('ZREM', B .. 'ready:' .. n.more, member)
    for _, f in ipairs(r.fired) do if f.inst == inst then f.claimed = true end end
  elseif n.s == 'L' then
    redis.call('ZREM', B .. 'leases', member)
  else
    redis.call('ZREM', B .. 'timers', n.s .. '|' .. member)
  end
end

-- Ends a live node as cancelled.
local function cancel_node(r, inst, n)
  unqueue(r, inst, n)
  if n.s == 'W' and n.more ~= 'subflow' then r.park = r.park - 1 end
  if n.s ~= 'L' then n.since = nil end
  put_node(r, inst, n, 'X')
  event(r, 'x', inst)
  put(r, 'nx', tonumber(get(r, 'nx') or 0) + 1)
  add_live(r, entry(r, inst), -1)
end

local function maybe_finish(r)
  settle(r)
  if r.live == 0 and not r.stopping and not TERMINAL[r.st] then finish(r) end
end

local function ready_with(r, inst, n, attached)
  if n.s == 'W' and n.more ~= 'subflow' then r.park = r.park - 1 end
  local queue = entry(r, inst)[5]
  put(r, 'r:' .. inst, cjson.encode(attached))
  put_node(r, inst, n, 'R', queue)
  r.fired[#r.fired + 1] = {inst = inst, queue = queue}
end

-- A child run has ended: its parent's node becomes ready with the outcome attached, in this same commit.
local function tell_parent(child)
  local p = load_run(child.par)
  local inst = get(child, 'pn')
  if not p or TERMINAL[p.st] then return end
  local n = node_state(p, inst)
  if not n or n.s ~= 'W' or get(p, 'w:' .. inst) ~= child.id then return end
  if p.stop then
    cancel_node(p, inst, n)
    return maybe_finish(p)
  end
  ready_with(p, inst, n, {'child', child.id, child.st})
end

local function change_status(r, st)
  local before = r.st
  if before == st then return end
  set_status(r, st)
  if r.par and (st == 'waiting' or before == 'waiting') then
    local p = load_run(r.par)
    if p then p.park = p.park + (st == 'waiting' and 1 or -1) end
  end
end

local function outcome(r)
  local failed = tonumber(get(r, 'fn') or 0) > 0
  if r.stop == 'timeout' then return 'timed_out' end
  if r.stop == 'cancel' and tonumber(get(r, 'nx') or 0) > 0 then return 'cancelled' end
  return (r.stop == 'fail' or failed) and 'failed' or 'completed'
end

finish = function(r)
  change_status(r, outcome(r))
  put(r, 'en', NOW)
  event(r, 'E', '', r.st)
  if get(r, 'dl') then redis.call('ZREM', B .. 'timers', 'd|' .. r.id .. '|') end
  if r.stop then redis.call('ZREM', B .. 'timers', 'g|' .. r.id .. '|') end
  if r.par then tell_parent(r) end
end

-- Stops a run: what has not begun is cancelled, what runs is told, children are stopped; the rest is for the grace timer.
stop_run = function(r, why, grace)
  if TERMINAL[r.st] or r.stop then return end
  r.stop, r.stopping = why, true
  put(r, 'stop', why)
  if r.st == 'scheduled' then
    redis.call('ZREM', B .. 'timers', 'b|' .. r.id .. '|')
    put(r, 'nx', 1)
  end
  if why ~= 'fail' then change_status(r, 'cancelling') end
  local told = false
  each_node(r, function(inst, n)
    if n.s == 'L' then
      told = true
    elseif n.s == 'W' and n.more == 'subflow' then
      local child = load_run(get(r, 'w:' .. inst))
      if child and not TERMINAL[child.st] then
        put(child, 'cx', cjson.encode({reason = 'its parent run ' .. r.id .. ' is stopping', at = NOW, grace = grace}))
        event(child, 'X', '', 'parent')
        stop_run(child, 'cancel', grace)
      else
        cancel_node(r, inst, n)
      end
    elseif n.s == 'R' or n.s == 'T' or n.s == 'W' then
      cancel_node(r, inst, n)
    end
  end)
  if told then redis.call('PUBLISH', B .. 'control', r.id .. '|' .. why) end
  r.stopping = nil
  if r.live > 0 then redis.call('ZADD', B .. 'timers', NOW + grace, 'g|' .. r.id .. '|') end
  maybe_finish(r)
end

-- The grace is over: what still runs is fenced off and the run ends.
local function force_stop(r)
  if TERMINAL[r.st] or not r.stop then return end
  r.stopping = true
  each_node(r, function(inst, n)
    if n.s == 'L' then
      cancel_node(r, inst, n)
    elseif n.s == 'W' and n.more == 'subflow' then
      local child = load_run(get(r, 'w:' .. inst))
      if child and not TERMINAL[child.st] then force_stop(child) end
    end
  end)
  r.stopping = nil
  put(r, 'forced', '1')
  maybe_finish(r)
end

-- Brings the status in line with what is live: waiting when every live node is parked.
local function settle_status()
  local i = 1
  while i <= #run_order do
    local r = run_order[i]
    if r.live > 0 and (r.st == 'running' or r.st == 'waiting' or r.st == 'queued') then
      local parked = r.park >= r.live
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
end
