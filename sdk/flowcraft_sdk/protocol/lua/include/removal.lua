-- Removing runs: all keys and index entries of one together, its tombstone left behind, its plan retired if it was the last to use it.

local CODES = {completed = 0, failed = 1, cancelled = 2, timed_out = 3}
local removed = 0
local more_to_read = false -- a record is read in pieces, and not to its end in this call

local function removed_runs()
  return removed
end

-- A tombstone is one number: the day of the removal, then the second of the run's end, then how it ended (2 bits).
local function tombstone_day(ms)
  return string.format('%.0f', math.floor(ms / 86400000) * 17179869184)
end

local function leave_tombstone(id, st, en)
  local score = tombstone_day(NOW) + math.floor(en / 1000) * 4 + CODES[st]
  write_beside('ZADD', 'gone', string.format('%.0f', score), id)
end

-- Retires a plan that no run and no blueprint uses. A client that has just read that it is current may still start a run
-- with it: it goes later, see `remove_old_plans`.
local function retire_plan(plan, blueprint)
  if tonumber(redis.call('HGET', B .. 'plans', plan) or 0) > 0 then return false end
  if redis.call('HGET', B .. 'blueprints', blueprint) == plan then return false end
  redis.call('ZADD', B .. 'retired', NOW, plan)
  return true
end

-- Removes plans that were retired ten minutes ago and are still not used.
local function remove_old_plans(most)
  for _, plan in ipairs(redis.call('ZRANGEBYSCORE', B .. 'retired', '-inf', NOW - 600000, 'LIMIT', 0, most)) do
    redis.call('ZREM', B .. 'retired', plan)
    local meta = redis.call('HGET', B .. 'plan:' .. plan, 'meta')
    local used = tonumber(redis.call('HGET', B .. 'plans', plan) or 0) > 0
    local fine, about = pcall(cjson.decode, meta or '{}')
    local blueprint = fine and type(about) == 'table' and tostring(about.id) or ''
    if meta and not used and redis.call('HGET', B .. 'blueprints', blueprint) ~= plan then
      redis.call('HDEL', B .. 'plans', plan)
      redis.call('UNLINK', B .. 'plan:' .. plan)
    end
  end
end

local function remove_from_indexes(id, st, bp, tags)
  write_beside('ZREM', 'idx:st:' .. st, id)
  write_beside('ZREM', 'idx:bp:' .. bp, id)
  write_beside('ZREM', 'ended:' .. (st == 'timed_out' and 'failed' or st), id)
  local fine, list = pcall(cjson.decode, tags or '[]') -- of what cannot be read the doctor removes the entries
  for _, tag in ipairs(fine and type(list) == 'table' and list or {}) do write_beside('ZREM', 'idx:tag:' .. tag, id) end
end

-- @fields ended_run status ended blueprint tags batches plan bytes parent dead_letters
local function remove_run(id)
  local k = B .. 'run:' .. id
  local ended_run = redis.call('HMGET', k, 'st', 'en', 'bp', 'tags', 'batches', 'plan', 'by', 'par', 'dead')
  remove_from_indexes(id, ended_run.status, ended_run.blueprint or '', ended_run.tags)
  for batch in string.gmatch(ended_run.batches or '', '[^\n]+') do redis.call('UNLINK', batch_key(id, batch)) end
  for instance_id in string.gmatch(ended_run.dead_letters or '', '[^\n]+') do write_beside('ZREM', 'dead', id .. '|' .. instance_id) end
  redis.call('UNLINK', k, B .. 'events:' .. id, B .. 'logs:' .. id)
  remove_streams(id)
  write_beside('HINCRBY', 'stats', 'bytes', -(tonumber(ended_run.bytes) or 0))
  if ended_run.parent then redis.pcall('HDEL', B .. 'run:' .. ended_run.parent, 'k:' .. id, 'ab:' .. id) end
  leave_tombstone(id, ended_run.status, tonumber(ended_run.ended) or NOW)
  if ended_run.plan and ended_run.blueprint then
    write_beside('HINCRBY', 'plans', ended_run.plan, -1)
    retire_plan(ended_run.plan, ended_run.blueprint)
  end
  removed = removed + 1
end

-- What is left in the common indexes of a run whose record was deleted by hand.
local function clear_up(id)
  for st in pairs(TERMINAL) do
    write_beside('ZREM', 'idx:st:' .. st, id)
    write_beside('ZREM', 'ended:' .. st, id)
  end
end

local MANY_FIELDS = 2000 -- of a record; a larger one is read in pieces
local steps_left = 10 -- pieces of such records that one call reads
local PIECE = 100

-- The children of a run with many fields, a piece at a time: how far it was read stands in its field `kc` from one call to the
-- next, `cursor|outcome|fields`. If it has another number of fields by then, a child may have come behind the cursor: it is read
-- from its beginning. `visit` returns removed | active | limit; returns the same for all of them.
local function each_child_in_pieces(k, visit)
  local cursor, outcome, fields = string.match(redis.call('HGET', k, 'kc') or '', '^(%d+)|(%a+)|(%d+)$')
  if not cursor or redis.call('HLEN', k) ~= tonumber(fields) then cursor, outcome = '0', 'removed' end
  repeat
    local piece = steps_left > 0 and redis.call('HSCAN', k, cursor, 'MATCH', 'k:*', 'COUNT', PIECE)
    for i = 1, piece and #piece[2] or 0, 2 do
      local below = visit(string.sub(piece[2][i], 3))
      if below == 'limit' then piece = false break end -- this piece is read again: what is gone is skipped then
      if below == 'active' then outcome = below end
    end
    if not piece then
      redis.call('HSETNX', k, 'kc', '')
      redis.call('HSET', k, 'kc', cursor .. '|' .. outcome .. '|' .. redis.call('HLEN', k))
      return 'limit'
    end
    cursor, steps_left = piece[1], steps_left - 1
  until cursor == '0'
  redis.call('HDEL', k, 'kc')
  return outcome
end

-- Removes a run and all below it, the leaves first. Returns removed | active (a run is still running, those above it stay) | limit.
-- What lies in the place of a run's record, and is none, is left to the doctor. Raises if that is the topmost.
local function remove_tree(id, limit, below_another)
  local k = B .. 'run:' .. id
  local st = redis.pcall('HGET', k, 'st')
  if type(st) == 'table' or st and not STATUSES[st] then
    local problem = type(st) == 'table' and st or 'it has no status that there is'
    if not below_another then error(problem, 0) end
    set_aside('run', id, problem)
    return 'removed'
  end
  if not st then
    clear_up(id)
    return 'removed'
  end
  if not TERMINAL[st] then return 'active' end
  local outcome, has_children = 'removed', redis.call('HEXISTS', k, 'kids') == 1
  if has_children and redis.call('HLEN', k) > MANY_FIELDS then
    outcome = each_child_in_pieces(k, function(child)
      if removed >= limit then return 'limit' end
      return remove_tree(child, limit, true)
    end)
    if outcome == 'limit' then more_to_read = true end
  else
    for _, field in ipairs(has_children and redis.call('HKEYS', k) or {}) do
      if string.sub(field, 1, 2) == 'k:' then
        local below = remove_tree(string.sub(field, 3), limit, true)
        if below == 'limit' then return below end
        if below == 'active' then outcome = below end
      end
    end
  end
  if outcome ~= 'removed' then return outcome end
  if removed >= limit then return 'limit' end
  remove_run(id)
  return 'removed'
end
