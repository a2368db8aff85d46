-- Claiming: a ready node becomes running under a lease, and the reply carries just the inputs it needs.
-- Reply: {run, inst, plan, blueprint, attempt, fence, crashes, iterations, position, attached, edge value, value of each `reads`}
--   position: which incoming edge brought the input (0: none); absent values are nil; iterations: `2` or `1.4`, outermost first.

-- Declared inputs are replaced by a transform's value, by nothing else that an edge brings.
local function transforms(field)
  return string.sub(field, 1, 2) == 'x:' and string.sub(field, -9) ~= '>fallback'
end

local function brought_by(r, node, e)
  local ins = e[2]
  if #ins == 0 then return 0, false end
  local position = e[6].header and tonumber(get(r, 'i:' .. node) or 0) or 1
  if #ins > 1 and not (e[6].header and position > 0) then
    local j = get(r, 'j:' .. node) or ''
    position = 0
    for i = #ins, 1, -1 do
      if string.sub(j, i, i) == 't' and (not e[6].inputs or transforms(ins[i])) then position = i; break end
    end
  end
  if position == 0 then return 0, false end
  local field = ins[position]
  if string.sub(field, 1, 1) == '?' and not e[6].inputs then
    local rest = string.sub(field, 2)
    local source = string.match(rest, '^(.*)>')
    return position, get(r, 'x:' .. rest) or get(r, 's:' .. source) or get(r, 'o:' .. source)
  end
  if e[6].inputs and not transforms(field) then return 0, false end
  return position, get(r, field)
end

local function iterations(r, e)
  if not e[6].loops then return '' end
  local list = {}
  for _, loop in ipairs(e[6].loops) do list[#list + 1] = loop_record(r, loop).iteration end
  return table.concat(list, '.')
end

local function claim_instance(r, inst, n, worker, lease)
  local e = entry(r, inst)
  n.claims = n.claims + 1
  put_node(r, inst, n, 'L')
  redis.call('ZADD', B .. 'leases', NOW + lease, r.id .. '|' .. inst)
  local its = iterations(r, e)
  event(r, 's', its ~= '' and (inst .. '#' .. its) or inst, n.attempt .. '|' .. worker)
  if r.st == 'queued' then
    set_status(r, 'running')
    put(r, 'sr', NOW)
  end
  local position, value = 0, false
  local owner, index = item_of(inst)
  if owner then
    value = redis.call('HGET', r.k .. ':batch:' .. owner, 'i:' .. index)
  else
    position, value = brought_by(r, inst, e)
  end
  local reply = {r.id, inst, r.plan, r.bp, n.attempt, n.claims, n.crashes, its, position, get(r, 'r:' .. inst), value}
  if #e[4] > 0 and not owner then
    local values = redis.call('HMGET', r.k, unpack(e[4]))
    for i = 1, #e[4] do
      local w = r.d[e[4][i]]
      reply[11 + i] = w or (w == nil and values[i]) or false
    end
  end
  return reply
end

-- Pops ready nodes until one can be claimed; what is no longer ready is dropped on the way.
local function claim_next(queues, worker, lease)
  for queue in string.gmatch(queues, '[^,]+') do
    for _ = 1, 32 do
      local popped = redis.call('ZPOPMIN', B .. 'ready:' .. queue)
      if not popped[1] then break end
      local id, inst = string.match(popped[1], '^([^|]+)|(.+)$')
      local r = load_run(id)
      local n = r and not TERMINAL[r.st] and not r.stop and node_state(r, inst)
      if n and n.s == 'R' then return claim_instance(r, inst, n, worker, lease) end
    end
  end
  return false
end

-- The next node for a worker that just finished one: a successor of its own if it has one in its queues, else from the queue.
-- how: 'q' own successors, then the queue; 'n' own successors only; '-' none.
local function next_claim(r, how, queues, worker, lease)
  if how == '-' then return false end
  for _, f in ipairs(r.fired) do
    local n = not f.claimed and (f.n or node_state(r, f.inst))
    local served = queues == f.queue or string.find(',' .. queues .. ',', ',' .. f.queue .. ',', 1, true)
    if n and (f.n or n.s == 'R') and served then
      f.claimed = true
      return claim_instance(r, f.inst, n, worker, lease)
    end
  end
  if how == 'n' then return false end
  return claim_next(queues, worker, lease)
end

-- How many nodes are ready in the worker's queues: tells it whether asking for more is worth while.
local function ready_count(how, queues)
  local ready = 0
  if how == 'q' then
    for queue in string.gmatch(queues, '[^,]+') do ready = ready + redis.call('ZCARD', B .. 'ready:' .. queue) end
  end
  return ready
end

-- The node that the caller holds under `fence`, or nil and why not: 'stale' or 'already' (its own earlier call was applied).
-- `fields`: what else of the run is going to be needed.
local function held(id, inst, fence, fields)
  fields = fields or {}
  fields[#fields + 1] = 'n:' .. inst
  fields[#fields + 1] = 'r:' .. inst
  local r = load_run(id, fields)
  local n = r and node_state(r, inst)
  if n and n.s == 'L' and n.claims == fence and not TERMINAL[r.st] then return r, n end
  if n and n.claims == fence and (n.s == 'C' or n.s == 'K' or n.s == 'W' or n.s == 'F') then return nil, 'already' end
  count('stale')
  return nil, 'stale'
end
