-- What a call about a claimed node begins with.

-- A node of this run that became ready in this call and that the caller serves: kept out of the queue, for `reply_with_claim`.
local function own_successor(r, how, queues)
  if how == '-' then return nil end
  for _, f in ipairs(r.fired) do
    if not f.claimed and serves(queues, f.queue) then
      f.claimed = true
      return {r.id, f.inst}
    end
  end
end

-- The node that the caller holds under `fence`, or nil and why not: 'stale' or 'already' (its own earlier call was applied).
-- `fields`: what else of the run is going to be needed.
local function held(id, inst, fence, fields)
  fields = fields or {}
  fields[#fields + 1] = 'n:' .. inst
  fields[#fields + 1] = 'r:' .. inst
  fields[#fields + 1] = 't:' .. inst
  local r = load_run(id, fields)
  local n = r and node_state(r, inst)
  if n and n.s == 'L' and n.claims == fence and not TERMINAL[r.st] then
    if not plan_gone(r) then return r, n end
    redis.call('ZADD', B .. 'timers', NOW, 'p|' .. id .. '|' .. inst) -- the sweeper fails the run
    return nil, 'stale'
  end
  if n and n.claims == fence and (n.s == 'C' or n.s == 'K' or n.s == 'W' or n.s == 'F') then return nil, 'already' end
  allow_when_full()
  count('stale')
  return nil, 'stale'
end
