-- Limits of concurrency and rate. The queue of a node that counts against a limit is written `QUEUE@LIMIT` in its plan entry. When it
-- becomes ready it waits in `limited:LIMIT`; `admit` moves it to `ready:QUEUE` when there is room, so that no worker ever holds a
-- node which may not run. `slots:LIMIT` has the nodes that were admitted and have not left: by the time of their admission, and
-- once a worker has claimed them by the time of the claim, negative. A lost worker's node leaves when its lease has expired.
-- In a deployment of several partitions each admits what it was granted, see share_limit.lua.


local admit, admit_touched, leave_slot, rule_of, tokens_of
do -- a script has 200 locals at most
  local PAUSE = 50 -- ms between two looks for tokens, at least: they are taken several at a time where the rate is higher
  local LOOK_OVER = 1000 -- ms after which slots that are all taken are looked over for nodes that do not hold them any more
  local LOOKED_AT = 200 -- slots that a look takes
  local AT_ONCE = 500 -- nodes that a call admits at most

  -- What the deployment has laid down: ms for each token, tokens that may be saved up, nodes at once; nil for none. Nil: nothing.
  rule_of = function(name)
    local interval, burst, concurrent = string.match(redis.call('HGET', B .. 'limits', name) or '', '^([%d.]*)|(%d*)|(%d*)$')
    if not interval then return nil end
    return {interval = tonumber(interval), burst = tonumber(burst), concurrent = tonumber(concurrent)}
  end

  -- Tokens of a bucket that was empty at the time `at`; at which time it would have been empty to hold `taken` fewer. Some time beyond
  -- what may be saved up is kept, so that a look that comes late loses nothing.
  tokens_of = function(rule, at)
    at = math.max(at, NOW - rule.burst * rule.interval - 0.999 * math.min(rule.interval, 1000))
    return math.floor((NOW - at) / rule.interval), at
  end

  -- How many nodes may be admitted, and in how many ms to look again, nil: not before something else happens.
  local function room_of(name, rule, waiting)
    local limit_key, slots, room, again = B .. 'limit:' .. name, B .. 'slots:' .. name, math.min(waiting, AT_ONCE), nil
    local state = redis.call('HMGET', limit_key, 'at', 'share', 'tokens')
    if rule.concurrent then
      room = math.min(room, (WAKE and tonumber(state[2] or 0) or rule.concurrent) - redis.call('ZCARD', slots))
      if room <= 0 then return 0, LOOK_OVER end
    end
    if not rule.interval then return room, nil end
    local unclaimed = redis.call('ZCOUNT', slots, 0, '+inf') -- not more than may be saved up: workers that are all busy let none pile up
    if WAKE then return math.min(room, tonumber(state[3] or 0), rule.burst - unclaimed), nil end
    local tokens, at = tokens_of(rule, tonumber(state[1] or 0))
    room = math.max(0, math.min(room, tokens, rule.burst - unclaimed))
    again = math.max(PAUSE, math.ceil(at + (room + 1) * rule.interval - NOW))
    return room, again, at
  end

  -- Frees slots whose nodes have left them unnoticed, as with a record that was broken or deleted.
  local function look_over(name)
    local limit_key, slots = B .. 'limit:' .. name, B .. 'slots:' .. name
    if NOW - tonumber(redis.call('HGET', limit_key, 'looked') or 0) < LOOK_OVER then return end
    -- Some at a time, the next ones at the next look: lost slots may lie behind many that are held.
    local from = tonumber(redis.call('HGET', limit_key, 'next') or 0)
    local members, freed = redis.call('ZRANGE', slots, from, from + LOOKED_AT - 1), 0
    for _, member in ipairs(members) do
      local id, instance_id = string.match(member, '^([^|]+)|(.+)$')
      local state = id and redis.pcall('HGET', B .. 'run:' .. id, 'n:' .. instance_id)
      local queue = type(state) == 'string' and string.match(state, '^R|%d+|%d+|%d+|%d+|([^@]*)@')
      local holds = type(state) == 'string' and string.sub(state, 1, 1) == 'L' or queue and redis.call('ZSCORE', B .. 'ready:' .. queue, member)
      if not holds then freed = freed + redis.call('ZREM', slots, member) end
    end
    redis.call('HSET', limit_key, 'looked', NOW, 'next', #members < LOOKED_AT and 0 or from + LOOKED_AT - freed)
  end

  -- Moves nodes that wait for a limit to their queues, as far as there is room. Nodes of paused queues are passed over.
  admit = function(name)
    local waiting, slots, rule = B .. 'limited:' .. name, B .. 'slots:' .. name, rule_of(name)
    local count = redis.call('ZCARD', waiting)
    if count == 0 then return 0 end
    local room, again, at = AT_ONCE, 0, nil
    if rule then room, again, at = room_of(name, rule, count) end
    local admitted, passed, ready = 0, {}, {}
    while admitted < room and #passed < 2 * AT_ONCE do
      local popped = redis.call('ZPOPMIN', waiting, room - admitted)
      if not popped[1] then break end
      for i = 1, #popped, 2 do
        local id, instance_id = string.match(popped[i], '^([^|]+)|(.+)$')
        local state = id and redis.pcall('HGET', B .. 'run:' .. id, 'n:' .. instance_id)
        local queue, limit = string.match(type(state) == 'string' and state or '', '^R|%d+|%d+|%d+|%d+|([^@]*)@(.*)$')
        if limit == name and PAUSED[queue] then
          passed[#passed + 1] = popped[i + 1]
          passed[#passed + 1] = popped[i]
        elseif limit == name then
          admitted = admitted + 1
          redis.call('ZADD', B .. 'ready:' .. queue, popped[i + 1], popped[i])
          if rule then redis.call('ZADD', slots, NOW, popped[i]) end
          ready[queue] = ready[queue] or {}
          table.insert(ready[queue], message(id, instance_id))
        end
      end
    end
    if passed[1] then redis.call('ZADD', waiting, unpack(passed)) end -- 2,000 at most
    if admitted > 0 and at then redis.call('HSET', B .. 'limit:' .. name, 'at', string.format('%.3f', at + admitted * rule.interval)) end
    if admitted > 0 and WAKE and rule and rule.interval then redis.call('HINCRBY', B .. 'limit:' .. name, 'tokens', -admitted) end
    for queue, messages in pairs(ready) do wake_workers(queue, #messages, function(i) return messages[i] end) end
    if again == LOOK_OVER then look_over(name) end
    if admitted == AT_ONCE then again = 0 end -- there may be room for more: a sweep continues
    if again and count > admitted then set_timer(NOW + again, 'l', name) end
    return admitted
  end

  -- Admits what it can to the limits that this call has touched. The state of each run is written by then.
  admit_touched = function()
    for name in pairs(touched_limits) do
      touched_limits[name] = nil
      local fine, problem = pcall(admit, name)
      if not fine then set_aside('key', 'limited:' .. name, problem) end
    end
  end

  -- A node does not hold its slot any more.
  leave_slot = function(limit, member)
    redis.call('ZREM', B .. 'slots:' .. limit, member)
    touched_limits[limit] = true
  end
end
