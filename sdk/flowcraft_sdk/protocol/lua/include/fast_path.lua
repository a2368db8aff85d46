-- The fast path: the common completion, without the machinery that the others need. It takes a node that the compiler has
-- flagged as `fast` in its plan entry, all of whose edges are taken, or without edges; see blueprints/compiling/fast_path.py.
-- It costs half. What it does is what the slow path does (the tests of the state machine drive both); where it does not
-- apply it returns nil and has written nothing.

-- What complete.lua works on, as the call gives it; see its head.
-- @fields NODE instance_id plan worker lease queues state action decisions successor next_queue next_position next_undecided next_input next_reads...
-- @fields OUTCOME run fencing_token mode output writes deletes values more...
-- PREPARED: what is worked out from the node, for further outcomes of the same one: fast, edges, fields, joins, entries.
local NODE, OUTCOME, PREPARED

-- What is read of the run, see `fast_path_fields`.
-- @fields run_read status plan created active parked stop history state blueprint messages has_steps parent failures deadline batches token started place

-- Decides the edges, given what `fast_path_fields` had read: fields to be set are added to `set`; returns what becomes ready,
-- nil where the fast path does not apply.
local function fire_fast(outs, run_read, set)
  local fired = {}
  for i, edge in ipairs(outs) do
    local target, position, j = edge.target, edge.position, edge.undecided
    local ready = true
    if #j > 1 then
      local place = PREPARED.joins[i]
      if is_wide(j) then
        local summary, chunk, undecided, _, failed = decide_wide(position, j, run_read[place], run_read[place + 1], 't')
        ready = undecided == 0
        if not summary or ready and failed > 0 then return nil end
        set[#set + 1], set[#set + 2] = 'j:' .. target, summary
        set[#set + 1], set[#set + 2] = chunk_field(target, position), chunk
      else
        j = run_read[place] or j
        if string.sub(j, position, position) ~= 'u' then return nil end
        j = string.sub(j, 1, position - 1) .. 't' .. string.sub(j, position + 1)
        set[#set + 1] = 'j:' .. target
        set[#set + 1] = j
        ready = not string.find(j, 'u', 1, true)
        if ready and string.find(j, 'f', 1, true) then return nil end
      end
    end
    if ready then fired[#fired + 1] = edge end
  end
  return fired
end

-- Adds the outcome's context writes and edge values to the fields to be set.
local function add_values(set, k, instance_id)
  local at = OUTCOME.more
  for _ = 1, OUTCOME.writes do
    local key = OUTCOME[at]
    local before, writers = before_write(k, key, instance_id)
    if before then set[#set + 1], set[#set + 2] = 'u:' .. key, before end
    if writers then set[#set + 1], set[#set + 2] = 'cw:' .. key, writers end
    set[#set + 1], set[#set + 2] = 'c:' .. key, OUTCOME[at + 1]
    at = at + 2
  end
  for _ = 1, OUTCOME.values do
    set[#set + 1], set[#set + 2] = 'x:' .. instance_id .. '>' .. OUTCOME[at], OUTCOME[at + 1]
    at = at + 2
  end
end

-- What is to be read of the run: the record, the node, and from 12 on the joins that its edges lead to, without edges what
-- an end depends on; and for each edge where its join is. Nil where the fast path does not apply. A target's handoff state is not
-- read: outside of loops it waits for this edge, or for others as well.
local function fast_path_fields(instance_id, outs, decisions)
  local fields, joins = {'st', 'plan', 'cr', 'live', 'park', 'stop', 'h', 'n:' .. instance_id, 'bp', 'mn', 'steps'}, {}
  for i, edge in ipairs(outs) do
    if string.byte(decisions, i) ~= 116 then return nil end
    if #edge.undecided > 1 then
      fields[#fields + 1] = 'j:' .. edge.target
      joins[i] = #fields
      if is_wide(edge.undecided) then fields[#fields + 1] = chunk_field(edge.target, edge.position) end
    end
  end
  if not outs[1] then fields[12], fields[13], fields[14], fields[15], fields[16], fields[17], fields[18] = 'par', 'fn', 'dl', 'batches', 'tok', 'sr', 'pl' end
  return fields, joins
end

-- Splits what became ready into a node for the caller itself, if it serves one, and the others, which are queued.
local function take_handoff(id, fired, set, now, mode, queues)
  local handoff, rest
  for _, edge in ipairs(fired) do
    if not handoff and mode ~= '-' and serves(queues, edge.queue) and goes_first(id, edge.queue) then
      handoff = edge.target
    else
      set[#set + 1] = 'n:' .. edge.target
      set[#set + 1] = 'R|1|0|0|' .. now .. '|' .. edge.queue
      rest = rest or {}
      rest[edge.queue] = rest[edge.queue] or {}
      table.insert(rest[edge.queue], edge.target)
    end
  end
  for queue, instance_ids in pairs(rest or {}) do enqueue(id, queue, instance_ids) end
  return handoff
end

-- The edges to go by: the one that the call names, or those of the plan's entry, if it is flagged. Nil otherwise.
local function fast_path_edges(plan, instance_id)
  local successor = NODE.successor
  if successor == '-' then return {} end
  if successor ~= '' then return {{successor, tonumber(NODE.next_position), NODE.next_undecided, 'all', NODE.next_queue}} end -- an edge
  local entry = plan_entry(plan, instance_id)
  return entry and entry.options and entry.options.fast and entry.outs
end

-- Whether the fast path can apply to the node; its edges and what is to be read are worked out once.
local function has_fast_path(plan, instance_id)
  if PREPARED.fast == nil then
    PREPARED.edges = NODE.state == 'C' and not item_of(instance_id) and fast_path_edges(plan, instance_id)
    if PREPARED.edges then PREPARED.fields, PREPARED.joins = fast_path_fields(instance_id, PREPARED.edges, NODE.decisions) end
    PREPARED.fast = PREPARED.fields and true or false
  end
  return PREPARED.fast
end

-- The entry of a node that becomes ready, as far as it is needed to claim it.
local function successor_entry(plan, edge)
  local entries = PREPARED.entries or {}
  PREPARED.entries = entries
  local target = edge.target
  if entries[target] == nil then
    if NODE.successor == '' or #edge.undecided > 1 then
      entries[target] = plan_entry(plan, target) or false
    else
      entries[target] = {'all', NODE.next_input == '' and {} or {NODE.next_input}, {}, part_of(NODE, NODE.next_reads)}
    end
  end
  return entries[target]
end

-- The end of a root run all of whose nodes have completed. `set` and `events` are of its last node.
local function complete_run(id, k, created, history, token, place, set, events)
  remove_entry('idx:st:running', id)
  add_entry('idx:st:completed', created, id)
  set[#set + 1], set[#set + 2], set[#set + 3], set[#set + 4] = 'st', 'completed', 'en', NOW
  write_fields_of(k, set)
  redis.call('HDEL', k, 'live')
  if history ~= 'off' then
    events[#events + 1] = 'E|' .. elapsed(created) .. '||completed'
    note(id, events, true)
  end
  notify_run(k, 'completed')
  if place then pass_on_place('left', id, created) end
  notify_end(id, 'completed', note_size(id, 'completed'), token)
end

local function complete_fast()
  local instance_id, plan, worker, lease, queues = NODE.instance_id, NODE.plan, NODE.worker, NODE.lease, NODE.queues
  local id, fencing_token, mode, output, more = OUTCOME.run, OUTCOME.fencing_token, OUTCOME.mode, OUTCOME.output, OUTCOME.writes
  if more and (OUTCOME.deletes ~= '0' or #OUTCOME > 1000) or not has_fast_path(plan, instance_id) then return nil end
  if string.sub(fencing_token, 1, 2) ~= '1:' then return nil end -- what was claimed before may have an outcome attached, for one thing
  local outs, k = PREPARED.edges, B .. 'run:' .. id
  local run_read = redis.call('HMGET', k, unpack(PREPARED.fields)) -- 212 at most: the compiler flags no node with more than 100 edges
  if run_read.status ~= 'running' or run_read.plan ~= plan or run_read.stop or run_read.messages or run_read.has_steps or (run_read.parked and run_read.parked ~= '0') then return nil end
  local claims, since = string.match(run_read.state or '', '^L|%d+|(%d+)|%d+|(%d+)')
  if claims ~= '1' or fencing_token ~= '1:' .. run_read.created then return nil end
  local now = string.format('%d', elapsed(run_read.created, since))
  local set = {'n:' .. instance_id, 'C|' .. since .. '|' .. now - since, 'o:' .. instance_id, output}
  local fired = fire_fast(outs, run_read, set)
  local first_edge = fired and fired[1]
  local next_entry = first_edge and successor_entry(plan, first_edge)
  local last = fired and run_read.active - 1 + #fired == 0
  if not fired or (first_edge and not next_entry) then return nil end
  if last and (outs[1] or run_read.parent or run_read.failures or run_read.deadline or run_read.batches) then return nil end

  if more then add_values(set, k, instance_id) end
  if #fired ~= 1 and not last then
    set[#set + 1] = 'live'
    set[#set + 1] = run_read.active - 1 + #fired
  end
  if not last then notify_once(k) end
  local handoff = take_handoff(id, fired, set, now, mode, queues) -- fails if a queue is broken: then the lease stays
  remove_entry('leases', id .. '|' .. instance_id)
  local events = {'c|' .. now .. '|' .. instance_id .. '|' .. NODE.action}
  if last then
    complete_run(id, k, run_read.created, run_read.history, run_read.token, run_read.place, set, events)
    count_end(run_read.blueprint, 'completed', tonumber(run_read.started) or run_read.created)
    return reply_with_claim('ok', 'completed', nil, mode, queues, worker, lease)
  end
  if handoff then
    local entry = handoff == first_edge.target and next_entry or plan_entry(plan, handoff)
    local input_value = #entry.ins == 1 and entry.ins[1] == 'o:' .. instance_id and output
    local run_head = {plan, run_read.blueprint, run_read.created, run_read.history}
    return {'ok', 'running', begin_node(id, handoff, entry, FRESH, run_head, false, worker, lease, set, events, input_value)}
  end
  write_fields_of(k, set)
  if run_read.history ~= 'off' then note(id, events) end
  return reply_with_claim('ok', 'running', nil, mode, queues, worker, lease)
end
