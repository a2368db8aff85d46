-- Records outcomes of nodes, with everything that follows from each, and claims the worker's next node for each.
-- The outcomes of one call have nothing to do with each other: each is applied as a whole or, if it is refused, not at all.
-- KEYS clock
-- ARGV count words...
--   count: of nodes; words: for each of them how many words follow, then the words of NODE (see include/fast_path.lua), up to
--     `successor` if there is none; and for each outcome: which of these nodes (from 1), how many words follow, then the words of
--     OUTCOME, up to `output` if there is no more to it; `more` is `writes` pairs key value, `deletes` keys, `values` pairs
--     edge-index value
--   mode: q|n|- (see reply_with_claim); state: C completed | K failed, and `output` is its fallback's, which stands in for it;
--   plan: the run's plan, so that what follows the node can be read along with it; action: '' for none;
--   decisions: one char (t taken, d dead) for each outgoing edge in plan order;
--   successor: '-' for an ordinary node without edges; of one with one edge, which is taken, the target, and what its plan entry holds: queue, place
--     among its incoming edges, undecided join string, the field with its input ('' for none), fields it reads; '' for all others
-- RETURNS for each outcome an error, or
--   {ok|stale|already, status of the run, next claim or nil, and unless that is a direct hand-off, how many nodes are ready in the queues}
--@include base limits write_batch plan joins claim memory_usage notify fast_path

allow_when_full()
collect()
pending = {}
local nodes, prepared, at, replies, left = {}, {}, ARGV.words, {}, {}
for i = 1, ARGV.count do
  nodes[i], prepared[i] = part_of(ARGV, at + 1, at + ARGV[at]), {}
  at = at + 1 + ARGV[at]
end
while ARGV[at] do
  local number = tonumber(ARGV[at])
  NODE, PREPARED, OUTCOME = nodes[number], prepared[number], part_of(ARGV, at + 2, at + 1 + ARGV[at + 1])
  at = at + 2 + ARGV[at + 1]
  local fine, reply = pcall(complete_fast)
  if not fine then reply = refused(reply) end
  replies[#replies + 1] = reply or false
  if not reply then left[#left + 1] = {#replies, NODE, OUTCOME} end
end
admit_touched()
serve_pending()
write_collected()
write_counts()
if not left[1] then return replies end

-- The slow path, for what is left.
--@include run graph loops closing run_end claimed_node batch

-- Writes what an outcome holds besides the output.
local function put_more(r, instance_id)
  local at = OUTCOME.more
  for _ = 1, OUTCOME.writes do
    put_context(r, instance_id, OUTCOME[at], OUTCOME[at + 1])
    at = at + 2
  end
  for _ = 1, OUTCOME.deletes do
    put_context(r, instance_id, OUTCOME[at], false)
    at = at + 1
  end
  for _ = 1, OUTCOME.values do
    put(r, 'x:' .. instance_id .. '>' .. OUTCOME[at], OUTCOME[at + 1])
    at = at + 2
  end
end

-- What follows from the end of a node that is no item of a batch.
local function decide_what_follows(r, instance_id, entry, state, action, decisions)
  decide_edges(r, instance_id, entry, decisions, 1)
  if entry.options.fallback and state == 'C' then decide(r, entry.options.fallback, 'd') end
  if entry.options.gather and state == 'C' then
    batches().open(r, instance_id)
  elseif entry.options.gather then -- recovered: there are no items, and those of the iteration before are not the gather's to collect
    put(r, 'b:' .. instance_id, false)
    decide(r, entry.options.gather, 't')
  end
  if entry.options.resumes then put(r, 'a:' .. instance_id, action) end
  if entry.options.owner then dynamic_done(r, entry.options.owner, entry.options.resumes) end
  if not entry.options.fallbackOf then return end
  put(r, 'a:' .. instance_id, action)
  for _, source in ipairs(entry.options.fallbackOf) do
    local waiting = node_state(r, source)
    if waiting and waiting.s == 'W' and waiting.more == 'fallback' then
      ready_with(r, source, waiting, {'fallback', instance_id, action})
    end
  end
end

local function complete_slow()
  local instance_id, plan, worker, lease, queues = NODE.instance_id, NODE.plan, NODE.worker, tonumber(NODE.lease), NODE.queues
  local id, fencing_token, mode, output, state = OUTCOME.run, OUTCOME.fencing_token, OUTCOME.mode, OUTCOME.output, NODE.state
  local owner, index = item_of(instance_id)
  local entry, ahead = field_of_plan(plan, 'n:' .. (owner or instance_id)), {}
  for _, edge in ipairs(entry and type(entry.outs) == 'table' and #entry.outs < 300 and entry.outs or {}) do
    ahead[#ahead + 1] = (#edge.undecided > 1 and 'j:' or 'n:') .. edge.target
    if is_wide(edge.undecided) then ahead[#ahead + 1] = chunk_field(edge.target, edge.position) end
  end
  if entry and edge_count(entry) == 0 then -- the run may end with it
    for _, field in ipairs({'fn', 'cl', 'dl', 'pn', 'sr', 'batches', 'tok', 'pl'}) do ahead[#ahead + 1] = field end
  end
  local r, n = held(id, instance_id, fencing_token, ahead)
  if not r then
    commit()
    return reply_with_claim(n, '', nil, mode, queues, worker, lease)
  end

  entry = entry or entry_of(r, instance_id)
  if OUTCOME.writes then put_more(r, instance_id) end
  remove_entry('leases', id .. '|' .. instance_id)
  free_slot(r, instance_id)
  if state == 'K' then
    local fallback_edge = entry.options.fallback
    node_event(r, 'K', instance_id, fallback_edge.target .. '|' .. NODE.action)
  else
    node_event(r, 'c', instance_id, NODE.action)
  end
  if get(r, 'r:' .. instance_id) then put(r, 'r:' .. instance_id, false) end
  add_active(r, entry, -1)
  if state == 'C' and entry.options.compensate and (owner or not entry.options.items) then
    note_completed(r, instance_id, iterations(r, entry), output)
  end
  if owner then
    batches().done(r, owner, index, output)
  else
    put_node(r, instance_id, n, state)
    put(r, 'o:' .. instance_id, state == 'K' and 'null' or output)
    if state == 'K' then put(r, 's:' .. instance_id, output) end
    decide_what_follows(r, instance_id, entry, state, NODE.action, NODE.decisions)
  end
  maybe_finish(r)
  local handoff = direct_handoff(r, mode, queues)
  commit()
  return reply_with_claim('ok', r.st, handoff, mode, queues, worker, lease)
end

for _, each in ipairs(left) do
  NODE, OUTCOME = each[2], each[3]
  forget_runs()
  local fine, reply = pcall(complete_slow)
  if fine then write_collected() else collect() end -- a broken run keeps its lease, and is looked at again
  replies[each[1]] = fine and reply or refused(reply)
end
return replies
