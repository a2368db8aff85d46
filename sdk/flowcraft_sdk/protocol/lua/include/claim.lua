-- Claiming: a ready node becomes running under a lease, and the reply carries just the inputs it needs.
-- Comes last in a call, when everything else has been written; see write_batch.lua for when it writes.
-- @fields claim run instance_id plan blueprint attempt fencing_token crashes iterations input_edge attached input_value delay values...
--   The reply: input_edge: which incoming edge the input came by (0: none); delay: ms since the node became ready; iterations: `2` or `1.4`, outermost first; values: of
--   each field that the plan entry reads. Absent values are nil.
-- @fields run_head plan blueprint created history status
-- @fields ready_node attempt claims crashes since

local iterations_of, add_inputs
do -- a script has 200 locals at most
  -- Which incoming edge a node's input came by: the last taken one, or the back edge that began a loop's iteration.
  local function input_edge_of(k, node, ins, options)
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

  iterations_of = function(k, loops)
    local list = {}
    for i, loop in ipairs(loops) do list[i] = string.match(redis.call('HGET', k, 'l:' .. loop) or '0', '^(%d+)') end
    return table.concat(list, '.')
  end

  -- Adds to a claim what the node is to work on. input_value: that of its only incoming edge, if it is known.
  add_inputs = function(claim, k, instance_id, entry, input_value)
    local options = entry.options or {}
    local owner, index = item_of(instance_id)
    if owner then
      claim.input_value = redis.call('HGET', batch_key(claim.run, owner), 'i:' .. index)
      return
    end
    if #entry.ins > 0 then
      local position = input_edge_of(k, instance_id, entry.ins, options)
      local value = input_value or position > 0 and edge_value(k, entry.ins[position], options)
      if position > 0 and (not options.inputs or transforms(entry.ins[position])) then claim.input_edge, claim.input_value = position, value end
    end
    if #entry.reads > 0 then
      local values = read_fields(k, entry.reads)
      for i = 1, #entry.reads do claim[claim.values - 1 + i] = values[i] end
    end
  end
end

-- How many nodes are claimed together by a process that runs suspects of a lost worker: `!1` for one that is alone.
local GROUP = ''

-- What `take` reads of a node that was never claimed, and is not ready before.
local FRESH = {'1', '0', '0', '0'}

-- Writes that a ready node is claimed, along with `set` and `events` of what came before it in this call; the claim's reply.
-- ready_node.since: when it became ready.
local function begin_node(id, instance_id, entry, ready_node, run_head, attached, worker, lease, set, events, input_value)
  local k, now, claims = B .. 'run:' .. id, string.format('%d', elapsed(run_head.created)), string.format('%d', ready_node.claims + 1)
  set[#set + 1] = 'n:' .. instance_id
  set[#set + 1] = 'L|' .. ready_node.attempt .. '|' .. claims .. '|' .. ready_node.crashes .. '|' .. now .. '|' .. worker .. GROUP
  add_entry('leases', string.format('%d', NOW + lease), id .. '|' .. instance_id) -- first: a lease too many is harmless
  write_fields_of(k, set)
  local its = entry.options and entry.options.loops and iterations_of(k, entry.options.loops) or ''
  if entry.options and entry.options.closing == 'c' then -- it may run for several executions, see closing.lua
    its = string.match(redis.call('HGET', k, 'cl') or '', '|(%d+)$') or ''
  end
  local delay = ready_node == FRESH and 0 or math.max(0, now - ready_node.since)
  if run_head.history ~= 'off' then
    local began = ready_node.attempt .. '|' .. worker
    if attached or delay >= 10 then began = began .. '|' .. ready_node.since end -- attached: what it waited for has come, no further attempt begins
    events[#events + 1] = (attached and 'u|' or 's|') .. now .. '|' .. (its ~= '' and (instance_id .. '#' .. its) or instance_id) .. '|' .. began
    note(id, events)
  end
  local token = claims .. ':' .. string.format('%d', run_head.created)
  local claim = {id, instance_id, run_head.plan, run_head.blueprint, ready_node.attempt, token, ready_node.crashes, its, 0, attached, false, delay}
  add_inputs(claim, k, instance_id, entry, input_value)
  return claim
end

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

-- The field with a node's input, if it is known without looking at the run. An item's input lies elsewhere, and its owner's is the
-- whole list.
local function sole_input(instance_id, entry)
  local is_ordinary = not entry.options or entry.options.fast and not entry.options.inputs
  local field = #entry.ins == 1 and is_ordinary and not item_of(instance_id) and entry.ins[1]
  return field and string.byte(field) ~= 63 and field
end

-- Claims a node if it is ready; false if not. `announced`: subscribers to the run are notified of this call anyway; `records`: of the
-- runs that the caller has claimed nodes of with it, none of which it changes otherwise meanwhile.
local function take(id, instance_id, worker, lease, announced, records)
  local k, run_head = B .. 'run:' .. id, records[id]
  local state, attached, input_value, stops
  local entry = run_head and plan_entry(run_head.plan, instance_id, k)
  if entry then
    local input_field = sole_input(instance_id, entry)
    local v = redis.call('HMGET', k, 'n:' .. instance_id, 'r:' .. instance_id, input_field or 'st')
    state, attached, input_value = v[1], v[2], input_field and v[3]
  else
    local v = redis.call('HMGET', k, 'n:' .. instance_id, 'r:' .. instance_id, 'stop', 'plan', 'bp', 'cr', 'h', 'st')
    run_head = {v[4], v[5], v[6], v[7], v[8]}
    stops, state, attached = v[3], v[1], v[2]
    if not run_head.status or TERMINAL[run_head.status] then return false end
    if stops then -- nothing is claimed but what has only a completed child to record that is to be undone, see `records_child`
      local fine, came = pcall(cjson.decode, attached or 'null')
      if not fine or type(came) ~= 'table' or came[1] ~= 'child' or came[3] ~= 'completed' then return false end
      entry = plan_entry(run_head.plan, instance_id, k)
      if not entry or not entry.options or not entry.options.compensate then return false end
    end
  end
  local ready_node = {string.match(state or '', '^R|(%d+)|(%d+)|(%d+)|(%d+)|')}
  if not ready_node.attempt then
    if state and not string.find(state, '^%u|%d+|%d') then refuse_record(id, 'its field n:' .. instance_id .. ' is wrong') end
    return false
  end
  entry = entry or plan_entry(run_head.plan, instance_id, k)
  if not entry then -- the sweeper fails the run
    set_timer(NOW, 'p', id, instance_id)
    return false
  end
  if not stops then records[id] = run_head end
  local at = string.find(state, '@', 1, true)
  if at then redis.call('ZADD', B .. 'slots:' .. string.sub(state, at + 1), 'XX', -NOW, id .. '|' .. instance_id) end -- of a limit
  local set = {}
  if run_head.status == 'queued' then
    remove_entry('idx:st:queued', id)
    add_entry('idx:st:running', run_head.created, id)
    set = {'st', 'running', 'sr', NOW}
    run_head.status = 'running'
  end
  if not announced then notify_once(k) end
  return begin_node(id, instance_id, entry, ready_node, run_head, attached, worker, lease, set, {}, input_value)
end

-- An error as a reply, or as one among others.
local function refused(problem)
  return {err = text_of(problem)}
end

-- Claims up to `count` nodes from the queues. What is no longer ready is dropped, what cannot be read set aside.
-- Also returns the error, if a queue could not be read or Redis refuses; what was popped is put back then. Raises none: what
-- was claimed is held.
local function take_many(queues, count, worker, lease)
  local claims, records, failure = {}, {}, nil
  for queue in string.gmatch(queues, '[^,]+') do
    local ready = B .. 'ready:' .. queue
    for _ = 1, 32 do
      local popped = #claims < count and not failure and not PAUSED[queue] and redis.pcall('ZPOPMIN', ready, count - #claims) or {}
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

-- How many nodes are ready in those of the worker's queues that are not paused: by it the worker knows whether to ask for more. Raises nothing.
local function ready_count(queues)
  local ready = 0
  for queue in string.gmatch(queues, '[^,]+') do
    local count = not PAUSED[queue] and redis.pcall('ZCARD', B .. 'ready:' .. queue)
    if type(count) == 'number' then ready = ready + count end
  end
  return ready
end

-- Replies that still lack a claim or the count of ready nodes, by worker; nil: each is served at once.
local pending

-- Serves them, once all outcomes of the call are recorded.
local function serve_pending()
  for _, asked in pairs(pending) do
    local claims, failure = {}, nil
    if asked.claims[1] then claims, failure = take_many(asked.queues, #asked.claims, asked.worker, asked.lease) end
    local ready = ready_count(asked.queues)
    for i, outcome_reply in ipairs(asked.claims) do outcome_reply.claim, outcome_reply.ready = claims[i] or false, ready end
    if failure then asked.claims[#asked.claims].err = refused(failure).err end -- the last one got no claim, and holds the reason
    for _, outcome_reply in ipairs(asked.counts) do outcome_reply.ready = ready end
  end
  pending = nil
end

-- The reply of a call that hands in an outcome and asks for the next node: `handoff` if the outcome made one ready for the
-- worker, else one from the queue. mode: 'q' a direct hand-off, then the queue; 'n' a direct hand-off only; '-' none.
-- @fields outcome_reply code status claim ready
-- @fields handoff run instance_id notified
--   notified: subscribers to its run are notified of this call anyway
local function reply_with_claim(code, status, handoff, mode, queues, worker, lease)
  local claim = handoff and take(handoff.run, handoff.instance_id, worker, lease, handoff.notified, {})
  local outcome_reply = {code, status, claim or false}
  if claim or mode == '-' then return outcome_reply end
  if pending then
    local asking = worker .. ' ' .. lease .. ' ' .. queues
    local asked = pending[asking] or {worker = worker, lease = lease, queues = queues, claims = {}, counts = {}}
    pending[asking] = asked
    table.insert(mode == 'q' and asked.claims or asked.counts, outcome_reply)
    return outcome_reply
  end
  if mode == 'q' then
    local claims, failure = take_many(queues, 1, worker, lease)
    if failure then return refused(failure) end -- of the claim: the outcome is recorded
    outcome_reply.claim = claims[1] or false
  end
  outcome_reply.ready = ready_count(queues)
  return outcome_reply
end
