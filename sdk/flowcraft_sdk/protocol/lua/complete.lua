-- Records outcomes of nodes, with everything that follows from each, and claims the worker's next node for each.
-- The outcomes of one call have nothing to do with each other: each is applied as a whole or, if it is refused, not at all.
-- KEYS clock
-- ARGV nodes, and for each of them: how many words follow, then
--     instance_id plan worker lease_ms queues state action decisions successor, and if there is one: its queue position join brings reads...
--   and for each outcome: which of these nodes (from 1), how many words follow, then
--     run fencing_token mode output, and if there is more to it: writes deletes values, then `writes` pairs key value, `deletes` keys, `values` pairs edge-index value
--   mode: q|n|- (see reply_with_claim); state: C completed | K failed, and `output` is its fallback's, which stands in for it;
--   plan: the run's plan, so that what follows the node can be read along with it; action: '' for none;
--   decisions: one char (t taken, d dead) for each outgoing edge in plan order;
--   successor: '-' for an ordinary node without edges; of one with one edge, which is taken, the target, and what its plan entry says of it: queue, place
--     among its incoming edges, undecided join string, the field that brings its input ('' for none), fields it reads; '' for all others
-- RETURNS for each outcome an error, or
--   {ok|stale|already, status of the run, next claim or nil, and unless that is an own successor, how many nodes are ready in the queues}
--@include base write_batch joins claim memory_usage fast_path

allow_when_full()
collect()
wanting = {}
local nodes, at, replies, left = {}, 2, {}, {}
for i = 1, ARGV[1] do
  nodes[i] = part_of(ARGV, at + 1, at + ARGV[at])
  at = at + 1 + ARGV[at]
end
while ARGV[at] do
  NODE, OUTCOME = nodes[tonumber(ARGV[at])], part_of(ARGV, at + 2, at + 1 + ARGV[at + 1])
  at = at + 2 + ARGV[at + 1]
  local fine, reply = pcall(complete_fast)
  if not fine then reply = refused(reply) end
  replies[#replies + 1] = reply or false
  if not reply then left[#left + 1] = {#replies, NODE, OUTCOME} end
end
serve_wanting()
write_collected()
if not left[1] then return replies end

-- The slow path, for what is left.
--@include run graph loops run_end claimed_node batch

-- Writes what an outcome holds besides the output.
local function put_more(r, instance_id)
  local at = 8
  for _ = 1, OUTCOME[5] do
    put_context(r, OUTCOME[at], OUTCOME[at + 1])
    at = at + 2
  end
  for _ = 1, OUTCOME[6] do
    put_context(r, OUTCOME[at], false)
    at = at + 1
  end
  for _ = 1, OUTCOME[7] do
    put(r, 'x:' .. instance_id .. '>' .. OUTCOME[at], OUTCOME[at + 1])
    at = at + 2
  end
end

-- What follows from the end of a node that is no item of a batch.
local function decide_what_follows(r, instance_id, e, state, action, decisions)
  decide_edges(r, instance_id, e, decisions, 1)
  if e[6].fallback and state == 'C' then decide(r, e[6].fallback, 'd') end
  if e[6].gather and state == 'C' then
    batches().open(r, instance_id)
  elseif e[6].gather then -- caught: there are no items, and those of the iteration before are not the gather's to collect
    put(r, 'b:' .. instance_id, false)
    decide(r, e[6].gather, 't')
  end
  if e[6].owner then dynamic_done(r, e[6].owner) end
  if not e[6].fallbackOf then return end
  put(r, 'a:' .. instance_id, action)
  for _, source in ipairs(e[6].fallbackOf) do
    local waiting = node_state(r, source)
    if waiting and waiting.s == 'W' and waiting.more == 'fallback' then
      ready_with(r, source, waiting, {'fallback', instance_id, action})
    end
  end
end

local function general()
  local instance_id, plan, worker, lease, queues = NODE[1], NODE[2], NODE[3], tonumber(NODE[4]), NODE[5]
  local id, fencing_token, mode, output, state = OUTCOME[1], OUTCOME[2], OUTCOME[3], OUTCOME[4], NODE[6]
  local owner, index = item_of(instance_id)
  local e, ahead = field_of_plan(plan, 'n:' .. (owner or instance_id)), {}
  for _, edge in ipairs(e and type(e[3]) == 'table' and #e[3] < 300 and e[3] or {}) do
    ahead[#ahead + 1] = (#edge[3] > 1 and 'j:' or 'n:') .. edge[1]
    if is_wide(edge[3]) then ahead[#ahead + 1] = chunk_field(edge[1], edge[2]) end
  end
  local r, n = held(id, instance_id, fencing_token, ahead)
  if not r then
    commit()
    return reply_with_claim(n, '', nil, mode, queues, worker, lease)
  end

  e = e or entry(r, instance_id)
  if OUTCOME[5] then put_more(r, instance_id) end
  remove_entry('leases', id .. '|' .. instance_id)
  if state == 'K' then
    node_event(r, 'K', instance_id, e[6].fallback[1] .. '|' .. NODE[7])
  else
    node_event(r, 'c', instance_id, NODE[7])
  end
  if get(r, 'r:' .. instance_id) then put(r, 'r:' .. instance_id, false) end
  add_live(r, e, -1)
  if owner then
    batches().done(r, owner, index, output)
  else
    put_node(r, instance_id, n, state)
    put(r, 'o:' .. instance_id, state == 'K' and 'null' or output)
    if state == 'K' then put(r, 's:' .. instance_id, output) end
    decide_what_follows(r, instance_id, e, state, NODE[7], NODE[8])
  end
  maybe_finish(r)
  local own = direct_handoff(r, mode, queues)
  commit()
  return reply_with_claim('ok', r.st, own, mode, queues, worker, lease)
end

for _, each in ipairs(left) do
  NODE, OUTCOME = each[2], each[3]
  forget_runs()
  local fine, reply = pcall(general)
  if fine then write_collected() else collect() end -- a broken run keeps its lease, and is looked at again
  replies[each[1]] = fine and reply or refused(reply)
end
return replies
