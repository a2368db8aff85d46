-- Model calls whose nodes are parked until there is room. `parked:NAME` has the nodes that wait, RUN|INSTANCE by their turns. With its turn
-- a node holds a place, `~|RUN|INSTANCE` in `underway:NAME`, until its call comes to take it, for HOLD ms at most; the caller of the
-- script makes the node ready in its own partition, and confirms that. `parking` has the names of limits with parked nodes.

local parked_calls = {}
do -- a script has 200 locals at most
  local EXPIRED = 200
  local HOLD = 5000 -- ms for which a place is held for a node
  local LONGEST_TURN = 3600000 -- ms for which a node that was made ready, and has not come, has its turn kept

  -- `k:NODE` in the state of the limit: a node that has had its turn, `turn|confirmed|since`.
  local function called(key, node)
    local turn, confirmed, since = string.match(redis.call('HGET', key, 'k:' .. node) or '', '^([%d.]+)|(%d)|(%d+)$')
    return turn, confirmed == '1', tonumber(since)
  end

  -- The node with the lowest turn, and that; nil without any.
  function parked_calls.first(parked)
    local found = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')
    return found[1], tonumber(found[2])
  end

  -- A node gets a place.
  function parked_calls.call(key, parked, admitted, node, turn)
    redis.call('ZREM', parked, node)
    redis.call('HSET', key, 'k:' .. node, string.format('%.6f|0|%.0f', turn, NOW))
    redis.call('ZADD', admitted, NOW + HOLD, '~|' .. node)
  end

  -- Parks the call of a node: it keeps its turn.
  function parked_calls.put_aside(key, parked, waiting, member, node, expected, turn)
    local at = redis.call('ZSCORE', waiting, member) or turn
    redis.call('ZREM', waiting, member)
    redis.call('HDEL', key, 'c:' .. member)
    local before = redis.call('ZSCORE', parked, node)
    if not before or tonumber(at) < tonumber(before) then redis.call('ZADD', parked, at, node) end
    redis.call('HSET', key, 'c:~|' .. node, expected)
    redis.call('HDEL', key, 'k:' .. node)
  end

  -- A call of a node comes: 'admitted' if a place was held for it, else the turn that it has kept, if it has one.
  -- Also the tokens that it was taken to need.
  function parked_calls.come(key, parked, admitted, node)
    local turn, expected = called(key, node), tonumber(redis.call('HGET', key, 'c:~|' .. node) or 0)
    local held = redis.call('ZREM', admitted, '~|' .. node) == 1
    turn = turn or redis.call('ZSCORE', parked, node)
    redis.call('ZREM', parked, node)
    redis.call('HDEL', key, 'k:' .. node, 'c:~|' .. node)
    if held then return 'admitted', expected end
    return turn and tonumber(turn), expected
  end

  -- A node was made ready (`was_parked`), or is there no more: whether a place is free again that was held for it, and its tokens.
  function parked_calls.confirm(key, parked, admitted, node, was_parked)
    local turn, _, since = called(key, node)
    if was_parked then
      if turn then redis.call('HSET', key, 'k:' .. node, turn .. '|1|' .. string.format('%.0f', since)) end
      return false
    end
    local expected = tonumber(redis.call('HGET', key, 'c:~|' .. node) or 0)
    redis.call('ZREM', parked, node)
    redis.call('HDEL', key, 'k:' .. node, 'c:~|' .. node)
    return redis.call('ZREM', admitted, '~|' .. node) == 1, expected
  end

  -- Places that were held in vain, and those of calls of which nothing was heard for long, EXPIRED at once; `free` is called for each
  -- that was held for a node, with the tokens that were taken. A node that was not made ready has its turn again.
  function parked_calls.expire(key, parked, admitted, free)
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', admitted, '-inf', NOW, 'LIMIT', 0, EXPIRED)) do
      local node = string.match(member, '^~|(.*)$')
      redis.call('ZREM', admitted, member)
      if node then
        local turn, confirmed = called(key, node)
        free(tonumber(redis.call('HGET', key, 'c:' .. member) or 0))
        if turn and not confirmed then
          redis.call('ZADD', parked, turn, node)
          redis.call('HDEL', key, 'k:' .. node)
        end
      end
    end
  end

  -- Whether a field of the state is of a node that was made ready long ago and has not come.
  function parked_calls.is_old(field, value)
    local since = string.sub(field, 1, 2) == 'k:' and string.match(value, '|(%d+)$')
    return since and NOW - tonumber(since) > LONGEST_TURN
  end

  -- How many nodes are parked, or have a place held for them that is not confirmed; notes the limit as one that is to be looked at.
  function parked_calls.note(name, parked, unconfirmed)
    local count_ = redis.call('ZCARD', parked) + unconfirmed
    if count_ > 0 then redis.call('ZADD', B .. 'parking', string.format('%.0f', NOW), name) else redis.call('ZREM', B .. 'parking', name) end
    return count_
  end
end
