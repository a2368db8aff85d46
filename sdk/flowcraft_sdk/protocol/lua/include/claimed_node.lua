-- What a call about a claimed node begins with.

-- A node that became ready in this call and that the caller serves: kept out of the queue, for `reply_with_claim`. One of the run at
-- hand, else of those that it belongs to: the node that waited for its end.
local function direct_handoff(r, mode, queues)
  if mode == '-' then return nil end
  local other = r
  while other do
    for _, f in ipairs(other.fired) do
      if not f.claimed and serves(queues, f.queue) and goes_first(other.id, f.queue) then
        f.claimed = true
        return {other.id, f.instance_id, other == r}
      end
    end
    other = other.par and runs[other.par]
  end
end

-- The node that the caller holds under `fencing_token`, or nil and why not: 'stale' or 'already' (its own earlier call was applied).
-- `fields`: what else of the run is going to be needed.
local function held(id, instance_id, fencing_token, fields)
  fields = fields or {}
  fields[#fields + 1] = 'n:' .. instance_id
  fields[#fields + 1] = 'r:' .. instance_id
  fields[#fields + 1] = 't:' .. instance_id
  local r = load_run(id, fields)
  local n = r and is_incarnation(r.cr, fencing_token) and node_state(r, instance_id)
  local claims = claims_of(fencing_token)
  if n and n.s == 'L' and n.claims == claims and not TERMINAL[r.st] then
    if not plan_gone(r) then return r, n end
    set_timer(NOW, 'p', id, instance_id) -- the sweeper fails the run
    return nil, 'stale'
  end
  if n and n.claims == claims and (n.s == 'C' or n.s == 'K' or n.s == 'W' or n.s == 'F') then return nil, 'already' end
  allow_when_full()
  count('stale')
  return nil, 'stale'
end

-- Ends a claim: the lease goes once the run is written. False if the run stops, or nothing waits for the node any more: then it is
-- cancelled, unless it has a completed child to record.
local function leave_claim(r, instance_id, n)
  drop_lease(r, instance_id)
  if not r.stop and not needless(r, instance_id) or records_child(r, instance_id) then return true end
  cancel_node(r, instance_id, n)
  maybe_finish(r)
  return false
end
