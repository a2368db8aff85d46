-- Retention: removes ended runs that are past the age or the count of their class, or over the byte budget, and with them
-- plans that nothing uses any more, old tombstones and workers that were not seen for a day. A bounded slice a call.
-- Runs go as trees: a run goes when nothing below it is left, so a child that is still running keeps those above it.
-- KEYS clock
-- ARGV limit bytes tombstone_age_ms tombstone_count classes...
--   bytes: '' for no budget; classes: name (completed | failed, timed out too | cancelled), age_ms ('' for ever) and count ('' for any) of
--   each; count and bytes leave runs alone that ended within a minute
-- RETURNS {runs removed, trees kept because a run of theirs is still running, 1 if there may be more to remove}
--@include base streams removal

local limit, budget, kept, trees = tonumber(ARGV.limit), tonumber(ARGV.bytes), 0, 0
local LATELY = NOW - 60000

-- Removes what a root's tree has ended of; a tree with a run that is still running counts as if it had ended now, and keeps no other run.
local function remove_root(class, id)
  trees = trees + 1
  local fine, outcome = pcall(remove_tree, id, limit)
  if not fine then
    set_aside('ended:' .. class, id, outcome)
    redis.call('ZREM', B .. 'ended:' .. class, id)
  elseif outcome == 'active' then
    redis.call('ZADD', B .. 'ended:' .. class, 'XX', NOW, id)
    kept = kept + 1
  end
end

local function oldest(class, before, most)
  return redis.call('ZRANGEBYSCORE', B .. 'ended:' .. class, '-inf', before, 'LIMIT', 0, most)
end

local failure -- of a class that cannot be read; the others are cleaned all the same

local function clean(class, age, count)
  local function go(ids)
    for _, id in ipairs(ids) do
      if removed_runs() < limit then remove_root(class, id) end
    end
  end
  if age then go(oldest(class, NOW - age, limit)) end
  local excess = count and redis.call('ZCARD', B .. 'ended:' .. class) - count or 0
  if excess > 0 then go(oldest(class, LATELY, math.min(excess, limit))) end
end

for i = ARGV.classes, #ARGV, 3 do
  local fine, problem = pcall(clean, ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))
  if not fine then failure = failure or problem end
end
if failure then error(failure, 0) end

-- The class whose oldest run ended first, and that run.
local function oldest_of_all()
  local class, id, ended
  for i = ARGV.classes, #ARGV, 3 do
    local head = redis.call('ZRANGEBYSCORE', B .. 'ended:' .. ARGV[i], '-inf', LATELY, 'WITHSCORES', 'LIMIT', 0, 1)
    if head[1] and (not ended or tonumber(head[2]) < ended) then class, id, ended = ARGV[i], head[1], tonumber(head[2]) end
  end
  return class, id
end

while budget and removed_runs() < limit and trees < 2 * limit and tonumber(redis.call('HGET', B .. 'stats', 'bytes') or 0) > budget do
  local class, id = oldest_of_all()
  if not id then break end
  remove_root(class, id)
end

local old = redis.call('ZRANGEBYSCORE', B .. 'gone', '-inf', tombstone_day(NOW - tonumber(ARGV.tombstone_age_ms)), 'LIMIT', 0, 500)
if #old == 0 then
  local excess = redis.call('ZCARD', B .. 'gone') - tonumber(ARGV.tombstone_count)
  if excess > 0 then old = redis.call('ZRANGE', B .. 'gone', 0, math.min(excess, 500) - 1) end
end
if #old > 0 then redis.call('ZREM', B .. 'gone', unpack(old)) end -- 500 at most
remove_old_plans(limit)
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', B .. 'workers', '-inf', NOW - 86400000, 'LIMIT', 0, 100)) do
  redis.call('ZREM', B .. 'workers', worker)
  redis.call('UNLINK', B .. 'worker:' .. worker)
end
return {removed_runs(), kept, (removed_runs() >= limit or more_to_read or #old == 500) and 1 or 0}
