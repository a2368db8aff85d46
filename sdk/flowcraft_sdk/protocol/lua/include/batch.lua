-- Items of a batch (`node[7]`): stored beside the run, opened a few at a time, their results kept in order.
-- `b:<owner>` in the run hash is `total|next|done|limit`; the hash `batch:ID|<owner>` holds i:<n> items and r:<n> results.

-- The functions for batches, made when one is met: most calls meet none.
local function batches()
  local function record(r, owner)
    local v = get(r, 'b:' .. owner)
    if not v then return nil end
    local total, opened, done, limit = string.match(v, '^(%d+)|(%d+)|(%d+)|(%d+)$')
    return {total = tonumber(total), opened = tonumber(opened), done = tonumber(done), limit = tonumber(limit)}
  end

  local function put_record(r, owner, b)
    put(r, 'b:' .. owner, b.total .. '|' .. b.opened .. '|' .. b.done .. '|' .. b.limit)
  end

  local function end_batch(r, owner)
    local entry = entry_of(r, owner)
    if entry.options.gather then
      decide(r, entry.options.gather, 't')
    else
      local n = node_state(r, owner)
      if n and n.s == 'W' and n.more == 'batch' then ready_with(r, owner, n, {'batch'}) end
    end
  end

  -- Nothing is kept of an item that is done. Its fencing tokens begin above those of the owner's earlier batches all the same, for
  -- the owner is claimed anew for each: what comes late from another round of a loop is refused.
  local CLAIMS_A_ROUND = 1000000

  local function begin(r, instance_id, entry, claims)
    make_ready(r, instance_id, {attempt = 1, claims = claims, crashes = 0}, queue_of(r, instance_id))
    add_active(r, entry, 1)
  end

  -- Makes an item ready that had been opened before, in the run that this one does again.
  local function open_again(r, owner, instance_id)
    begin(r, instance_id, entry_of(r, owner), node_state(r, owner).claims * CLAIMS_A_ROUND)
  end

  -- Makes the next items ready while fewer than `limit` are active; ends the batch when all are done.
  local function open(r, owner)
    local b = record(r, owner)
    local entry = entry_of(r, owner)
    local claims = node_state(r, owner).claims * CLAIMS_A_ROUND
    local most = b.opened + 500 -- in one call; each item that is done makes further ones ready
    while not r.stop and b.opened < math.min(b.total, most) and b.opened - b.done < b.limit do
      begin(r, owner .. '[' .. b.opened .. ']', entry, claims)
      b.opened = b.opened + 1
    end
    put_record(r, owner, b)
    if b.done == b.total then end_batch(r, owner) end
    if r.stop and b.done == b.opened and b.done < b.total then note_undone(r) end -- it is not gathered
  end

  local function done(r, owner, index, result)
    redis.call('HSET', batch_key(r.id, owner), 'r:' .. index, result)
    redis.call('HDEL', batch_key(r.id, owner), 'i:' .. index)
    put(r, 'n:' .. owner .. '[' .. index .. ']', false)
    if get(r, 'w:' .. owner .. '[' .. index .. ']') then put(r, 'w:' .. owner .. '[' .. index .. ']', false) end -- its child run
    if get(r, 't:' .. owner .. '[' .. index .. ']') then put(r, 't:' .. owner .. '[' .. index .. ']', false) end
    drop_kept(r, owner .. '[' .. index .. ']', owner)
    local b = record(r, owner)
    b.done = b.done + 1
    put_record(r, owner, b)
    open(r, owner)
  end

  return {record = record, put = put_record, open = open, open_again = open_again, done = done}
end
