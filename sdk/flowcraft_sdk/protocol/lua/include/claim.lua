-- Claiming: a ready node becomes running under a lease, and the reply carries just the inputs it needs.
-- Comes last in a call, when everything else has been written; see write_batch.lua for when it writes.
-- Reply: {run, instance_id, plan, blueprint, attempt, fencing_token, crashes, iterations, position, attached, edge value, value of each `reads`}
--   position: which incoming edge brought the input (0: none); absent values are nil; iterations: `2` or `1.4`, outermost first.

-- Which incoming edge brought a node's input: the last taken one, or the back edge that began a loop's iteration.
local function bringing_edge(k, node, ins, options)
  local position = options.header and tonumber(redis.call('HGET', k, 'i:' .. node) or 0) or 1
  if #ins == 1 or (options.header and position > 0) then return position end
  local j = redis.call('HGET', k, 'j:' .. node) or ''
  if is_wide(j) then
    local last, transform = string.match(j, '|(%d+)|(%d+)$')
    return tonumber(options.inputs and transform or last)
  end
  for i = #ins, 1, -1 do
    if string.sub(j, i, i) == 't' and (not options.inputs or transforms(ins[i])) then return i end
  end
  return 0
end

local function edge_value(k, field, options)
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
local function add_inputs(reply, k, instance_id, e, given)
  local options = e[6] or {}
  local owner, index = item_of(instance_id)
  if owner then
    reply[11] = redis.call('HGET', batch_key(reply[1], owner), 'i:' .. index)
    return
  end
  if #e[2] > 0 then
    local position = bringing_edge(k, instance_id, e[2], options)
    local value = given or position > 0 and edge_value(k, e[2][position], options)
    if position > 0 and (not options.inputs or transforms(e[2][position])) then reply[9], reply[11] = position, value end
  end
  if #e[4] > 0 then
    local values = read_fields(k, e[4])
    for i = 1, #e[4] do reply[11 + i] = values[i] end
  end
end

-- How many nodes are claimed together by a process that runs suspects of a lost worker: `!1` for one that is alone.
local GROUP = ''

-- Writes that a ready node is claimed, along with `set` and `events` of what came before it in this call; the claim's reply.
-- n: {attempt, claims, crashes, since when it is ready} of the node; run: {plan, blueprint, created, history}.
local function begin_node(id, instance_id, e, n, run, attached, worker, lease, set, events, given)
  local k, now, claims = B .. 'run:' .. id, string.format('%d', elapsed(run[3])), string.format('%d', n[2] + 1)
  set[#set + 1] = 'n:' .. instance_id
  set[#set + 1] = 'L|' .. n[1] .. '|' .. claims .. '|' .. n[3] .. '|' .. now .. '|' .. worker .. GROUP
  add_entry('leases', string.format('%d', NOW + lease), id .. '|' .. instance_id) -- first: a lease too many is harmless
  write_fields_of(k, set)
  local its = e[6] and e[6].loops and iterations_of(k, e[6].loops) or ''
  if run[4] ~= 'off' then
    local began = n[1] .. '|' .. worker
    if attached then began = began .. '|' .. n[4] end -- what it waited for has come: no further attempt begins
    events[#events + 1] = (attached and 'u|' or 's|') .. now .. '|' .. (its ~= '' and (instance_id .. '#' .. its) or instance_id) .. '|' .. began
    note(id, events)
  end
  local token = claims .. ':' .. string.format('%d', run[3])
  local reply = {id, instance_id, run[1], run[2], n[1], token, n[3], its, 0, attached, false}
  add_inputs(reply, k, instance_id, e, given)
  return reply
end

-- What `take` reads of a node that was never claimed.
local FRESH = {'1', '0', '0', '0'}

local entries_taken = {}

local function plan_entry(plan, instance_id, k)
  local node = item_of(instance_id) or instance_id
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

-- The field that brings a node's input, if that can be told without looking at the run. An item's input lies elsewhere,
-- and what its owner was brought is the whole list.
local function sole_input(instance_id, e)
  local is_ordinary = not e[6] or e[6].fast and not e[6].inputs
  local field = #e[2] == 1 and is_ordinary and not item_of(instance_id) and e[2][1]
  return field and string.byte(field) ~= 63 and field
end

-- Claims a node if it is ready; false if not. `announced`: subscribers to the run are notified of this call anyway; `records`: of the
-- runs that the caller has claimed nodes of with it, none of which it changes otherwise meanwhile.
local function take(id, instance_id, worker, lease, announced, records)
  local k, run, brings, v = B .. 'run:' .. id, records[id], nil, nil
  local e = run and plan_entry(run[1], instance_id, k)
  if e then
    brings = sole_input(instance_id, e)
    v = redis.call('HMGET', k, 'n:' .. instance_id, 'r:' .. instance_id, brings or 'st')
  else
    v = redis.call('HMGET', k, 'n:' .. instance_id, 'r:' .. instance_id, 'plan', 'bp', 'cr', 'h', 'st', 'stop')
    if not v[7] or TERMINAL[v[7]] or v[8] then return false end
    run = {v[3], v[4], v[5], v[6], v[7]}
  end
  local n = {string.match(v[1] or '', '^R|(%d+)|(%d+)|(%d+)|(%d+)|')}
  if not n[1] then
    if v[1] and not string.find(v[1], '^%u|%d+|%d') then refuse_record(id, 'its field n:' .. instance_id .. ' is wrong') end
    return false
  end
  e = e or plan_entry(run[1], instance_id, k)
  if not e then -- the sweeper fails the run
    redis.call('ZADD', B .. 'timers', NOW, 'p|' .. id .. '|' .. instance_id)
    return false
  end
  records[id] = run
  local set = {}
  if run[5] == 'queued' then
    remove_entry('idx:st:queued', id)
    add_entry('idx:st:running', run[3], id)
    set = {'st', 'running', 'sr', NOW}
    run[5] = 'running'
  end
  if not announced then tell(k) end
  return begin_node(id, instance_id, e, n, run, v[2], worker, lease, set, {}, brings and v[3])
end

-- An error as a reply, or as one among others.
local function refused(problem)
  return {err = text_of(problem)}
end

-- Claims up to `count` nodes from the queues. What is no longer ready is dropped on the way, what cannot be read set aside.
-- Also returns the error, if a queue could not be read or Redis refuses; what was popped is put back then. Raises none: what
-- was claimed is held.
local function take_many(queues, count, worker, lease)
  local claims, records, failure = {}, {}, nil
  for queue in string.gmatch(queues, '[^,]+') do
    local ready = B .. 'ready:' .. queue
    for _ = 1, 32 do
      local popped = #claims < count and not failure and redis.pcall('ZPOPMIN', ready, count - #claims) or {}
      failure = failure or popped.err and popped
      if not popped[1] then break end
      for i = 1, #popped, 2 do
        local id, instance_id = string.match(popped[i], '^([^|]+)|(.+)$')
        if failure then
          redis.call('ZADD', ready, popped[i + 1], popped[i])
        else
          local fine, claim = pcall(take, id, instance_id, worker, lease, false, records)
          if not fine then
            records[id or ''] = nil
            fine, failure = pcall(set_aside, 'ready:' .. queue, popped[i], claim)
            if fine then failure = nil else redis.call('ZADD', ready, popped[i + 1], popped[i]) end
          elseif claim then
            claims[#claims + 1] = claim
          end
        end
      end
    end
  end
  return claims, failure
end

-- How many nodes are ready in the worker's queues: tells it whether asking for more is worth while. Raises nothing.
local function ready_count(queues)
  local ready = 0
  for queue in string.gmatch(queues, '[^,]+') do
    local count = redis.pcall('ZCARD', B .. 'ready:' .. queue)
    if type(count) == 'number' then ready = ready + count end
  end
  return ready
end

-- Replies that still want to know about the queue, by worker; nil: each is served at once.
local wanting

-- Serves them, once all outcomes of the call are recorded.
local function serve_wanting()
  for _, asked in pairs(wanting) do
    local claims, failure = {}, nil
    if asked.claims[1] then claims, failure = take_many(asked.queues, #asked.claims, asked.worker, asked.lease) end
    local ready = ready_count(asked.queues)
    for i, reply in ipairs(asked.claims) do reply[3], reply[4] = claims[i] or false, ready end
    if failure then asked.claims[#asked.claims].err = refused(failure).err end -- the last one got no claim, and tells why
    for _, reply in ipairs(asked.counts) do reply[4] = ready end
  end
  wanting = nil
end

-- The reply of a call that hands in an outcome and asks for the next node: `own` if the outcome made one ready for the
-- worker, else one from the queue. mode: 'q' own successor, then the queue; 'n' own successor only; '-' none.
local function reply_with_claim(code, status, own, mode, queues, worker, lease)
  local claim = own and take(own[1], own[2], worker, lease, true, {})
  local reply = {code, status, claim or false}
  if claim or mode == '-' then return reply end
  if wanting then
    local asking = worker .. ' ' .. lease .. ' ' .. queues
    local asked = wanting[asking] or {worker = worker, lease = lease, queues = queues, claims = {}, counts = {}}
    wanting[asking] = asked
    table.insert(mode == 'q' and asked.claims or asked.counts, reply)
    return reply
  end
  if mode == 'q' then
    local claims, failure = take_many(queues, 1, worker, lease)
    if failure then return refused(failure) end -- of the claim: the outcome is recorded
    reply[3] = claims[1] or false
  end
  reply[4] = ready_count(queues)
  return reply
end
