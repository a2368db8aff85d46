-- The fast path: the common completion, without the machinery that the others need. It takes a node that the compiler has
-- flagged as `fast` in its plan entry, all of whose edges are taken, or without edges; see blueprints/compiling/fast_path.py.
-- It costs half. What it does is what the slow path does (the tests of the state machine drive both); where it does not
-- apply it returns nil and has written nothing.

-- What complete.lua works on: what the call says of the node (see its head; what is worked out from it is kept in it, too,
-- for further outcomes of the same node), and of its outcome.
local NODE, OUTCOME

-- Decides the edges, given what `fast_path_fields` had read: fields to be set are added to `set`; returns what becomes ready,
-- nil where the fast path does not apply.
local function fire_fast(outs, values, set)
  local fired = {}
  for i, edge in ipairs(outs) do
    local target, position, j = edge[1], edge[2], edge[3]
    local ready = true
    if #j > 1 then
      local place = NODE.joins[i]
      if is_wide(j) then
        local summary, chunk, undecided, _, failed = decide_wide(position, j, values[place], values[place + 1], 't')
        ready = undecided == 0
        if not summary or ready and failed > 0 then return nil end
        set[#set + 1], set[#set + 2] = 'j:' .. target, summary
        set[#set + 1], set[#set + 2] = chunk_field(target, position), chunk
      else
        j = values[place] or j
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
  local at = 8
  for _ = 1, OUTCOME[5] do
    local key, before = OUTCOME[at], start_value(k, OUTCOME[at])
    if before then set[#set + 1], set[#set + 2] = 'u:' .. key, before end
    set[#set + 1], set[#set + 2] = 'c:' .. key, OUTCOME[at + 1]
    at = at + 2
  end
  for _ = 1, OUTCOME[7] do
    set[#set + 1], set[#set + 2] = 'x:' .. instance_id .. '>' .. OUTCOME[at], OUTCOME[at + 1]
    at = at + 2
  end
end

-- What is to be read of the run: the record, the node, and from 11 on the joins that its edges lead to, without edges what
-- an end depends on; and for each edge where its join is. Nil where the fast path does not apply. A target's own state is not
-- read: outside of loops it waits for this edge, or for others as well.
local function fast_path_fields(instance_id, outs, decisions)
  local fields, joins = {'st', 'plan', 'cr', 'live', 'park', 'stop', 'h', 'n:' .. instance_id, 'r:' .. instance_id, 'bp'}, {}
  for i, edge in ipairs(outs) do
    if string.byte(decisions, i) ~= 116 then return nil end
    if #edge[3] > 1 then
      fields[#fields + 1] = 'j:' .. edge[1]
      joins[i] = #fields
      if is_wide(edge[3]) then fields[#fields + 1] = chunk_field(edge[1], edge[2]) end
    end
  end
  if not outs[1] then fields[11], fields[12], fields[13], fields[14], fields[15] = 'par', 'fn', 'dl', 'batches', 'tok' end
  return fields, joins
end

-- Splits what became ready into a node for the caller itself, if it serves one, and the others, which are queued.
local function hand_over(id, fired, set, now, mode, queues)
  local own, rest
  for _, edge in ipairs(fired) do
    if not own and mode ~= '-' and serves(queues, edge[5]) then
      own = edge[1]
    else
      set[#set + 1] = 'n:' .. edge[1]
      set[#set + 1] = 'R|1|0|0|' .. now .. '|' .. edge[5]
      rest = rest or {}
      rest[edge[5]] = rest[edge[5]] or {}
      table.insert(rest[edge[5]], edge[1])
    end
  end
  for queue, instance_ids in pairs(rest or {}) do enqueue(id, queue, instance_ids) end
  return own
end

-- The edges to go by: the one that the call names, or those of the plan's entry, if it is flagged. Nil otherwise.
local function fast_path_edges(plan, instance_id)
  local successor = NODE[9]
  if successor == '-' then return {} end
  if successor ~= '' then return {{successor, tonumber(NODE[11]), NODE[12], 'all', NODE[10]}} end
  local e = plan_entry(plan, instance_id)
  return e and e[6] and e[6].fast and e[3]
end

-- Whether the fast path can apply to the node; its edges and what is to be read are worked out once.
local function has_fast_path(plan, instance_id)
  if NODE.fast == nil then
    NODE.edges = NODE[6] == 'C' and not item_of(instance_id) and fast_path_edges(plan, instance_id)
    if NODE.edges then NODE.fields, NODE.joins = fast_path_fields(instance_id, NODE.edges, NODE[8]) end
    NODE.fast = NODE.fields and true or false
  end
  return NODE.fast
end

-- The entry of a node that becomes ready, as far as it is needed to claim it.
local function successor_entry(plan, edge)
  local entries = NODE.entries or {}
  NODE.entries = entries
  local target = edge[1]
  if entries[target] == nil then
    if NODE[9] == '' or #edge[3] > 1 then
      entries[target] = plan_entry(plan, target) or false
    else
      entries[target] = {'all', NODE[13] == '' and {} or {NODE[13]}, {}, part_of(NODE, 14)}
    end
  end
  return entries[target]
end

-- The end of a root run all of whose nodes have completed. `set` and `events` are of its last node.
local function complete_run(id, k, created, history, token, set, events)
  remove_entry('idx:st:running', id)
  add_entry('idx:st:completed', created, id)
  set[#set + 1], set[#set + 2], set[#set + 3], set[#set + 4] = 'st', 'completed', 'en', NOW
  write_fields_of(k, set)
  redis.call('HDEL', k, 'live')
  if history ~= 'off' then
    events[#events + 1] = 'E|' .. elapsed(created) .. '||completed'
    note(id, events, true)
  end
  redis.call('PUBLISH', k, 'completed')
  tell_end(id, 'completed', note_size(id, 'completed'), token)
end

local function complete_fast()
  local instance_id, plan, worker, lease, queues = NODE[1], NODE[2], NODE[3], NODE[4], NODE[5]
  local id, fencing_token, mode, output, more = OUTCOME[1], OUTCOME[2], OUTCOME[3], OUTCOME[4], OUTCOME[5]
  if more and (OUTCOME[6] ~= '0' or #OUTCOME > 1000) or not has_fast_path(plan, instance_id) then return nil end
  local outs, k = NODE.edges, B .. 'run:' .. id
  local v = redis.call('HMGET', k, unpack(NODE.fields)) -- 210 at most: the compiler flags no node with more than 100 edges
  if v[1] ~= 'running' or v[2] ~= plan or v[6] or v[9] or (v[5] and v[5] ~= '0') then return nil end
  local claims, since = string.match(v[8] or '', '^L|%d+|(%d+)|%d+|(%d+)')
  if claims ~= '1' or fencing_token ~= '1:' .. v[3] then return nil end -- of what was claimed before, more is to be known
  local now = string.format('%d', elapsed(v[3], since))
  local set = {'n:' .. instance_id, 'C|' .. since .. '|' .. now - since, 'o:' .. instance_id, output}
  local fired = fire_fast(outs, v, set)
  local next_entry = fired and fired[1] and successor_entry(plan, fired[1])
  local last = fired and v[4] - 1 + #fired == 0
  if not fired or (fired[1] and not next_entry) or last and (outs[1] or v[11] or v[12] or v[13] or v[14]) then return nil end

  if more then add_values(set, k, instance_id) end
  if #fired ~= 1 and not last then
    set[#set + 1] = 'live'
    set[#set + 1] = v[4] - 1 + #fired
  end
  if not last then tell(k) end
  local own = hand_over(id, fired, set, now, mode, queues) -- fails if a queue is broken: then the lease stays
  remove_entry('leases', id .. '|' .. instance_id)
  local events = {'c|' .. now .. '|' .. instance_id .. '|' .. NODE[7]}
  if last then
    complete_run(id, k, v[3], v[7], v[15], set, events)
    return reply_with_claim('ok', 'completed', nil, mode, queues, worker, lease)
  end
  if own then
    local entry = own == fired[1][1] and next_entry or plan_entry(plan, own)
    local given = #entry[2] == 1 and entry[2][1] == 'o:' .. instance_id and output
    return {'ok', 'running', begin_node(id, own, entry, FRESH, {plan, v[10], v[3], v[7]}, false, worker, lease, set, events, given)}
  end
  write_fields_of(k, set)
  if v[7] ~= 'off' then note(id, events) end
  return reply_with_claim('ok', 'running', nil, mode, queues, worker, lease)
end
