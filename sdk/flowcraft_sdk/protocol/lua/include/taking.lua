-- Claiming: a ready node becomes running under a lease, and the reply carries just the inputs it needs.
-- Comes last in a call, when everything else has been written, and writes at once.
-- Reply: {run, inst, plan, blueprint, attempt, fence, crashes, iterations, position, attached, edge value, value of each `reads`}
--   position: which incoming edge brought the input (0: none); absent values are nil; iterations: `2` or `1.4`, outermost first.

-- Declared inputs are replaced by a transform's value, by nothing else that an edge brings.
local function transforms(field)
  return string.sub(field, 1, 2) == 'x:' and string.sub(field, -9) ~= '>fallback'
end

-- Which incoming edge brought a node's input: the last taken one, or the back edge that began a loop's iteration.
local function bringing_edge(k, node, ins, options)
  local position = options.header and tonumber(redis.call('HGET', k, 'i:' .. node) or 0) or 1
  if #ins == 1 or (options.header and position > 0) then return position end
  local j = redis.call('HGET', k, 'j:' .. node) or ''
  for i = #ins, 1, -1 do
    if string.sub(j, i, i) == 't' and (not options.inputs or transforms(ins[i])) then return i end
  end
  return 0
end

local function brought_value(k, field, options)
  if options.inputs then return transforms(field) and redis.call('HGET', k, field) end
  if string.sub(field, 1, 1) ~= '?' then return redis.call('HGET', k, field) end
  local rest = string.sub(field, 2)
  local source = string.match(rest, '^(.*)>')
  local v = redis.call('HMGET', k, 'x:' .. rest, 's:' .. source, 'o:' .. source)
  return v[1] or v[2] or v[3]
end

local function iterations_of(k, loops)
  local list = {}
  for i, loop in ipairs(loops) do list[i] = string.match(redis.call('HGET', k, 'l:' .. loop) or '0', '^(%d+)') end
  return table.concat(list, '.')
end

-- Adds to the claim's reply what the node is to work on. given: what its only incoming edge brings, if that is known.
local function add_inputs(reply, k, inst, e, given)
  local options = e[6] or {}
  local owner, index = item_of(inst)
  if owner then
    reply[11] = redis.call('HGET', k .. ':batch:' .. owner, 'i:' .. index)
    return
  end
  if #e[2] > 0 then
    local position = bringing_edge(k, inst, e[2], options)
    local value = given or position > 0 and brought_value(k, e[2][position], options)
    if position > 0 and (not options.inputs or transforms(e[2][position])) then reply[9], reply[11] = position, value end
  end
  if #e[4] > 0 then
    local values = redis.call('HMGET', k, unpack(e[4]))
    for i = 1, #e[4] do reply[11 + i] = values[i] end
  end
end

-- Writes that a ready node is claimed, along with `set` and `events` of what came before it in this call; the claim's reply.
-- n: {attempt, claims, crashes} of the node; run: {plan, blueprint, created, history}.
local function begin_node(id, inst, e, n, run, attached, worker, lease, set, events, given)
  local k, now, claims = B .. 'run:' .. id, string.format('%d', NOW - run[3]), string.format('%d', n[2] + 1)
  set[#set + 1] = 'n:' .. inst
  set[#set + 1] = 'L|' .. n[1] .. '|' .. claims .. '|' .. n[3] .. '|' .. now
  begin_lease(id .. '|' .. inst, lease) -- first: a lease too many is harmless
  redis.call('HSET', k, unpack(set))
  local its = e[6] and e[6].loops and iterations_of(k, e[6].loops) or ''
  if run[4] ~= 'off' then
    events[#events + 1] = 's|' .. now .. '|' .. (its ~= '' and (inst .. '#' .. its) or inst) .. '|' .. n[1] .. '|' .. worker
    note(k, events)
  end
  local reply = {id, inst, run[1], run[2], n[1], claims, n[3], its, 0, attached, false}
  add_inputs(reply, k, inst, e, given)
  return reply
end

-- What `take` reads of a node that nobody has claimed yet.
local FRESH = {'1', '0', '0'}

local entries_taken = {}

local function plan_entry(plan, inst, k)
  local node = item_of(inst) or inst
  local key = plan .. node
  if not entries_taken[key] then
    local text = redis.call('HGET', B .. 'plan:' .. plan, 'n:' .. node)
    entries_taken[key] = text and cjson.decode(text)
    if not text and k then
      text = redis.call('HGET', k, 'y:' .. node)
      return text and cjson.decode(text)
    end
  end
  return entries_taken[key]
end

-- Claims a node if it is ready; false if not. `told`: those who follow the run hear of this call anyway.
local function take(id, inst, worker, lease, told)
  local k = B .. 'run:' .. id
  local v = redis.call('HMGET', k, 'plan', 'bp', 'cr', 'h', 'st', 'stop', 'n:' .. inst, 'r:' .. inst)
  if not v[5] or TERMINAL[v[5]] or v[6] then return false end
  local n = {string.match(v[7] or '', '^R|(%d+)|(%d+)|(%d+)|')}
  if not n[1] then return false end
  local e = plan_entry(v[1], inst, k)
  if not e then -- the sweeper fails the run
    redis.call('ZADD', B .. 'timers', NOW, 'p|' .. id .. '|' .. inst)
    return false
  end
  local set = {}
  if v[5] == 'queued' then
    redis.call('ZREM', B .. 'idx:st:queued', id)
    redis.call('ZADD', B .. 'idx:st:running', v[3], id)
    set = {'st', 'running', 'sr', NOW}
  end
  if not told then tell(k) end
  return begin_node(id, inst, e, n, v, v[8], worker, lease, set, {})
end

-- Pops ready nodes until one can be claimed; what is no longer ready is dropped on the way.
local function take_next(queues, worker, lease)
  for queue in string.gmatch(queues, '[^,]+') do
    for _ = 1, 32 do
      local popped = redis.call('ZPOPMIN', B .. 'ready:' .. queue)
      if not popped[1] then break end
      local id, inst = string.match(popped[1], '^([^|]+)|(.+)$')
      local claim = take(id, inst, worker, lease)
      if claim then return claim end
    end
  end
  return false
end

-- How many nodes are ready in the worker's queues: tells it whether asking for more is worth while.
local function ready_count(queues)
  local ready = 0
  for queue in string.gmatch(queues, '[^,]+') do ready = ready + redis.call('ZCARD', B .. 'ready:' .. queue) end
  return ready
end

-- The reply of a call that hands in an outcome and asks for the next node: `own` if the outcome made one ready for the
-- worker, else one from the queue. how: 'q' own successor, then the queue; 'n' own successor only; '-' none.
local function reply_with_claim(code, status, own, how, queues, worker, lease)
  local claim = own and take(own[1], own[2], worker, lease, true)
  if claim or how ~= 'q' then return {code, status, claim or false} end
  claim = take_next(queues, worker, lease)
  return {code, status, claim, ready_count(queues)}
end
