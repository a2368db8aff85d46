-- Pauses a queue, or resumes it. Nothing of a paused queue is claimed; what is held already runs to its end.
-- What a limit has admitted and no worker has claimed waits for its limit again: it would keep its slot from nodes of other queues.
-- KEYS clock
-- ARGV queue action
--   action: pause | resume
-- RETURNS {since when it is paused, in ms, 0: it is not; how many nodes are ready in it}
--   A queue that is paused stays so, since the same time, and one that is not stays as it is.
--@include base limits

local queue, ready = ARGV.queue, B .. 'ready:' .. ARGV.queue

-- Has nodes of a queue that were admitted and not claimed wait for their limits again, so that those of other queues may be admitted.
local function take_back()
  for _, name in ipairs(redis.call('HKEYS', B .. 'limits')) do
    local slots, limit_key, rule, count = B .. 'slots:' .. name, B .. 'limit:' .. name, rule_of(name), 0
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', slots, 0, '+inf')) do
      local score = redis.call('ZSCORE', ready, member)
      if score then
        redis.call('ZREM', ready, member)
        redis.call('ZADD', B .. 'limited:' .. name, score, member)
        redis.call('ZREM', slots, member)
        count = count + 1
      end
    end
    if count > 0 then touched_limits[name] = true end
    if count > 0 and rule and rule.interval and WAKE then redis.call('HINCRBY', limit_key, 'tokens', count) end
    if count > 0 and rule and rule.interval and not WAKE then
      local at = tonumber(redis.call('HGET', limit_key, 'at') or 0)
      redis.call('HSET', limit_key, 'at', string.format('%.3f', at - count * rule.interval))
    end
  end
end

local waiting = redis.call('ZCARD', ready)
if ARGV.action == 'pause' then
  PAUSED[queue] = PAUSED[queue] or NOW
else
  PAUSED[queue] = nil
  for _, name in ipairs(redis.call('HKEYS', B .. 'limits')) do set_timer(NOW, 'l', name) end -- its nodes may be admitted again
  local first = redis.call('ZRANGE', ready, 0, 63)
  if waiting > 0 then
    wake_workers(queue, WAKE and waiting or #first, function(i) return message(string.match(first[i], '^([^|]*)|?(.*)$')) end)
  end
end
CLAIMING.paused = next(PAUSED) and PAUSED or nil
if next(CLAIMING) then
  redis.call('SET', B .. 'claiming', cjson.encode(CLAIMING))
else
  redis.call('DEL', B .. 'claiming')
end
if PAUSED[queue] then
  take_back()
  admit_touched()
end
return {PAUSED[queue] or 0, waiting}
