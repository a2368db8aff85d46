-- Records a node's outcome and everything that follows from it, and claims the worker's next node, in one commit.
-- KEYS clock
-- ARGV run inst fence worker lease_ms how queues state action decisions writes deletes values output plan follower, then
--   if there is one: its queue position join brings reads, and `reads` fields; then
--   `writes` pairs key value, `deletes` keys, `values` pairs edge-index value
--   how: q|n|- (see next_claim); state: C completed | K failed, and `output` is its fallback's, which stands in for it;
--   action: '' for none;
--   plan: the run's plan, so that what follows the node can be read along with it;
--   follower: '-' for an ordinary node without edges; of one with one edge, which is taken, the target, and what its plan entry says of it: queue, place
--     among its incoming edges, undecided join string, the field that brings its input ('' for none), fields it reads; '' for all others;
--   decisions: one char (t taken, d dead) for each outgoing edge in plan order
-- RETURNS {ok|stale|already, status of the run, next claim or nil, and if that was sought in the queue, how many nodes are ready there}
--@include base taking measuring straight? run graph loops ending claiming batch

local id, inst, worker, lease, how, queues = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local owner, index = item_of(inst)
local e, ahead = field_of_plan(ARGV[15], 'n:' .. (owner or inst)), {}
for i, edge in ipairs(e and e[3] or {}) do ahead[i] = (#edge[3] > 1 and 'j:' or 'n:') .. edge[1] end
local r, n = held(id, inst, tonumber(ARGV[3]), ahead)
if not r then
  commit()
  return reply_with_claim(n, '', nil, how, queues, worker, lease)
end

e = e or entry(r, inst)
local action, decisions = ARGV[9], ARGV[10]
local at = values_at()
for _ = 1, tonumber(ARGV[11]) do
  put_context(r, ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, tonumber(ARGV[12]) do
  put_context(r, ARGV[at], false)
  at = at + 1
end
for _ = 1, tonumber(ARGV[13]) do
  put(r, 'x:' .. inst .. '>' .. ARGV[at], ARGV[at + 1])
  at = at + 2
end

redis.call('ZREM', B .. 'leases', id .. '|' .. inst)
node_event(r, 'c', inst, action)
if get(r, 'r:' .. inst) then put(r, 'r:' .. inst, false) end
add_live(r, e, -1)

if owner then
  batches().done(r, owner, index, ARGV[14])
else
  put_node(r, inst, n, ARGV[8])
  if ARGV[8] == 'K' then
    put(r, 's:' .. inst, ARGV[14])
    put(r, 'o:' .. inst, 'null')
  else
    put(r, 'o:' .. inst, ARGV[14])
  end
  for i, edge in ipairs(e[3]) do decide(r, edge, string.sub(decisions, i, i)) end
  if e[6].fallback and ARGV[8] == 'C' then decide(r, e[6].fallback, 'd') end
  if e[6].gather and ARGV[8] == 'C' then
    batches().open(r, inst)
  elseif e[6].gather then -- caught: there are no items, and those of the iteration before are not the gather's to collect
    put(r, 'b:' .. inst, false)
    decide(r, e[6].gather, 't')
  end
  if e[6].owner then dynamic_done(r, e[6].owner) end
  if e[6].fallbackOf then
    put(r, 'a:' .. inst, action)
    for _, source in ipairs(e[6].fallbackOf) do
      local waiting = node_state(r, source)
      if waiting and waiting.s == 'W' and waiting.more == 'fallback' then
        ready_with(r, source, waiting, {'fallback', inst, action})
      end
    end
  end
end

maybe_finish(r)
local own = own_successor(r, how, queues)
commit()
return reply_with_claim('ok', r.st, own, how, queues, worker, lease)
