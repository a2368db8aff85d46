-- The common completion, without the machinery that the others need: a node outside of loops and fallbacks, all of whose
-- edges are taken, or without edges. It costs half. What it does is what the general way does (the tests of
-- the state machine drive both); where it does not apply it returns nil and has written nothing.

-- Where the arguments with writes begin: after those about the follower, if there is one.
local function values_at()
  return (ARGV[16] == '' or ARGV[16] == '-') and 17 or 22 + ARGV[21]
end

-- Decides the edges, given what `read_straight` read: fields to be set are added to `set`; returns what becomes ready,
-- nil where this way does not apply.
local function fire_straight(outs, values, set)
  local fired, seen = {}, {}
  for i, edge in ipairs(outs) do
    local target, position, j = edge[1], edge[2], edge[3]
    if values[9 + 2 * i] or seen[target] then return nil end
    local ready = true
    if #j > 1 then
      seen[target] = true
      j = values[10 + 2 * i] or j
      if string.sub(j, position, position) ~= 'u' then return nil end
      j = string.sub(j, 1, position - 1) .. 't' .. string.sub(j, position + 1)
      set[#set + 1] = 'j:' .. target
      set[#set + 1] = j
      ready = not string.find(j, 'u', 1, true)
      if ready and string.find(j, '[fb]') then return nil end
    end
    if ready then fired[#fired + 1] = edge end
  end
  return fired
end

-- Adds context writes and edge values from the call's arguments, which begin at `at`, to the fields to be set.
local function add_values(set, k, inst, at)
  for _ = 1, ARGV[11] do
    local before = start_value(k, ARGV[at])
    if before then set[#set + 1], set[#set + 2] = 'u:' .. ARGV[at], before end
    set[#set + 1], set[#set + 2] = 'c:' .. ARGV[at], ARGV[at + 1]
    at = at + 2
  end
  for _ = 1, ARGV[13] do
    set[#set + 1], set[#set + 2] = 'x:' .. inst .. '>' .. ARGV[at], ARGV[at + 1]
    at = at + 2
  end
end

-- The record, the node, and from 11 on for each edge its target's state and join, without edges what an end depends on;
-- nil where this way does not apply.
local function read_straight(k, inst, outs, decisions)
  local fields = {'st', 'plan', 'cr', 'live', 'park', 'stop', 'h', 'n:' .. inst, 'r:' .. inst, 'bp'}
  for i, edge in ipairs(outs) do
    if edge[6] or edge[4] == 'any' or string.byte(decisions, i) ~= 116 then return nil end
    fields[9 + 2 * i] = 'n:' .. edge[1]
    fields[10 + 2 * i] = #edge[3] > 1 and 'j:' .. edge[1] or 'st'
  end
  if not outs[1] then fields[11], fields[12], fields[13], fields[14] = 'par', 'fn', 'dl', 'batches' end
  return redis.call('HMGET', k, unpack(fields))
end

-- Splits what became ready into a node for the caller itself, if it serves one, and the others, which are queued.
local function hand_over(id, fired, set, now, how, queues)
  local own, rest
  for _, edge in ipairs(fired) do
    if not own and how ~= '-' and serves(queues, edge[5]) then
      own = edge[1]
    else
      set[#set + 1] = 'n:' .. edge[1]
      set[#set + 1] = 'R|1|0|0|' .. now .. '|' .. edge[5]
      rest = rest or {}
      rest[edge[5]] = rest[edge[5]] or {}
      table.insert(rest[edge[5]], edge[1])
    end
  end
  for queue, insts in pairs(rest or {}) do enqueue(id, queue, insts) end
  return own
end

-- The edges to go by: the one that the call tells, or those of the plan's entry, if the node is an ordinary one.
local function straight_edges(plan, inst)
  if ARGV[16] == '-' then return {} end
  if ARGV[16] ~= '' then return {{ARGV[16], tonumber(ARGV[18]), ARGV[19], 'all', ARGV[17]}} end
  local e = plan_entry(plan, inst)
  local o = e and e[6]
  if not e or #e[3] > 200 or o and (o.loops or o.header or o.fallback or o.fallbackOf or o.gather) then return nil end
  return e[3]
end

-- The entry of a node that becomes ready, as far as it is needed to claim it.
local function follower_entry(plan, inst, edge)
  if ARGV[16] == '' or #edge[3] > 1 then return plan_entry(plan, edge[1]) end
  local reads, brings = {}, ARGV[20]
  for i = 1, ARGV[21] do reads[i] = ARGV[21 + i] end
  return {'all', brings == '' and {} or {brings}, {}, reads, given = brings == 'o:' .. inst and ARGV[14]}
end

-- The end of a run that is nobody's child, all of whose nodes have completed. `set` and `events` are of its last node.
local function complete_run(id, k, created, history, set, events)
  redis.call('ZREM', B .. 'idx:st:running', id)
  redis.call('ZADD', B .. 'idx:st:completed', created, id)
  set[#set + 1], set[#set + 2], set[#set + 3], set[#set + 4] = 'st', 'completed', 'en', NOW
  redis.call('HSET', k, unpack(set))
  if history ~= 'off' then
    events[#events + 1] = 'E|' .. NOW - created .. '||completed'
    add_events(k, events)
  end
  note_size(id, 'completed')
end

local function straight()
  local id, inst, how, queues, worker, lease, plan = ARGV[1], ARGV[2], ARGV[6], ARGV[7], ARGV[4], tonumber(ARGV[5]), ARGV[15]
  if ARGV[8] ~= 'C' or ARGV[12] ~= '0' or item_of(inst) then return nil end
  local outs, k = straight_edges(plan, inst), B .. 'run:' .. id
  local v = outs and read_straight(k, inst, outs, ARGV[10])
  if not v or v[1] ~= 'running' or v[2] ~= plan or v[6] or v[9] or (v[5] and v[5] ~= '0') then return nil end
  local attempt, claims, crashes, since = string.match(v[8] or '', '^L|(%d+)|(%d+)|(%d+)|(%d+)')
  if claims ~= ARGV[3] then return nil end
  local now = NOW - v[3]
  local done = 'C|' .. attempt .. '|' .. claims .. '|' .. crashes .. '|' .. since .. '|' .. now
  local set = {'n:' .. inst, done, 'o:' .. inst, ARGV[14]}
  local fired = fire_straight(outs, v, set)
  local next_entry = fired and fired[1] and follower_entry(plan, inst, fired[1])
  local last = fired and v[4] - 1 + #fired == 0
  if not fired or (fired[1] and not next_entry) or last and (outs[1] or v[11] or v[12] or v[13] or v[14]) then return nil end

  add_values(set, k, inst, values_at())
  if #fired ~= 1 then
    set[#set + 1] = 'live'
    set[#set + 1] = v[4] - 1 + #fired
  end
  redis.call('ZREM', B .. 'leases', id .. '|' .. inst)
  redis.call('PUBLISH', k, last and 'completed' or '')
  local own = hand_over(id, fired, set, now, how, queues)
  local events = {'c|' .. now .. '|' .. inst .. '|' .. ARGV[9]}
  if last then
    complete_run(id, k, v[3], v[7], set, events)
    return reply_with_claim('ok', 'completed', nil, how, queues, worker, lease)
  end
  if own then
    local entry = own == fired[1][1] and next_entry or plan_entry(plan, own)
    local run = {plan, v[10], v[3], v[7]}
    return {'ok', 'running', begin_node(id, own, entry, {1, 0, 0}, run, false, worker, lease, set, events)}
  end
  redis.call('HSET', k, unpack(set))
  if v[7] ~= 'off' then add_events(k, events) end
  return reply_with_claim('ok', 'running', nil, how, queues, worker, lease)
end
