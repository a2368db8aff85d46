-- What is done last when a run has ended: it is counted, and those that wait for its end are notified.

-- Runs that have ended are counted by blueprint, state and duration. A call adds to the hash `counting` alone, with one write for
-- all runs that it counts alike: `MINUTE CLASS BLUEPRINT`, CLASS being the mark of the state and the number of a duration: number n
-- are the runs that took between 2^(n/2) - 1 and 2^((n+1)/2) - 1 ms. The first call in another minute adds what is there of the
-- minutes before to `minutes:HOUR` (kept for a day), `hours:DAY` (for 30 days) and `totals`, as `CLASS=COUNT ...` for each blueprint.
local count_end, write_counts
do
  local MARKS, ENDS_KEPT = {completed = 'c', failed = 'f', cancelled = 'x', timed_out = 't'}, 2000
  local ends = {}

  -- Adds counts to a field of a hash: to that of no blueprint, `PREFIX`, if the hash has as many fields as it may.
  local function add_counts(name, prefix, blueprint, counts, most, seconds)
    local field = prefix .. blueprint
    local known = write_beside('HGET', name, field)
    if not known and (write_beside('HLEN', name) or most) >= most then
      field = prefix
      known = write_beside('HGET', name, field)
    end
    local sums, texts = {}, {}
    for class, count in pairs(counts) do sums[class] = count end
    for class, count in string.gmatch(known or '', '(%a%d+)=(%d+)') do sums[class] = (sums[class] or 0) + count end
    for class, sum in pairs(sums) do texts[#texts + 1] = class .. '=' .. string.format('%d', sum) end
    write_beside('HSET', name, field, table.concat(texts, ' '))
    if seconds then redis.pcall('EXPIRE', B .. name, seconds) end
  end

  -- Moves what was counted in other minutes to where it is kept.
  local function keep_counts(minute)
    local found, by_minute, moved = write_beside('HGETALL', 'counting') or {}, {}, {}
    for i = 1, #found, 2 do
      local of, class, blueprint = string.match(found[i], '^(%d+) (%a%d+) (.*)$')
      if of and of ~= minute then
        by_minute[of] = by_minute[of] or {}
        by_minute[of][blueprint] = by_minute[of][blueprint] or {}
        by_minute[of][blueprint][class] = tonumber(found[i + 1])
        moved[#moved + 1] = found[i]
      end
    end
    for of, blueprints in pairs(by_minute) do
      local hour, day = string.format('%d', math.floor(of / 60)), string.format('%d', math.floor(of / 1440))
      for blueprint, counts in pairs(blueprints) do
        add_counts('minutes:' .. hour, of .. ' ', blueprint, counts, 12000, 93600)
        add_counts('hours:' .. day, hour .. ' ', blueprint, counts, 5000, 2764800)
        add_counts('totals', '', blueprint, counts, 1000)
      end
    end
    for from = 1, #moved, 1000 do write_beside('HDEL', 'counting', unpack(moved, from, math.min(from + 999, #moved))) end
    write_beside('HSET', 'counting', 'minute', minute)
  end

  -- Counts a run that ends in this call; began: when it was started, in ms.
  count_end = function(blueprint, status, began)
    local class = MARKS[status] .. math.floor(2 * math.log(elapsed(began) + 1) / math.log(2) + 1e-9) .. ' ' .. blueprint
    ends[class] = (ends[class] or 0) + 1
  end

  -- Writes what was counted.
  write_counts = function()
    if not next(ends) then return end
    local minute = string.format('%d', math.floor(NOW / 60000))
    for class, count in pairs(ends) do
      local field = minute .. ' ' .. class
      if write_beside('HINCRBY', 'counting', field, count) == count then -- the first ones in this minute
        if write_beside('HGET', 'counting', 'minute') ~= minute then keep_counts(minute) end
        if write_beside('HLEN', 'counting') > ENDS_KEPT then
          write_beside('HDEL', 'counting', field)
          write_beside('HINCRBY', 'counting', string.match(field, '^%d+ %a%d+ '), count)
        end
      end
    end
    ends = {}
  end
end

-- A client that waits for the end alone subscribes to another channel, and is not woken by each step of a run; the client that has
-- started the run may have an inbox for the ends of all its runs. A small record goes along, which saves the subscribers
-- reading it. size: its bytes; token: of the start, perhaps with an inbox and a notification token: `INBOX@TOKEN`.
local function notify_end(id, st, size, token)
  local k, channel, payload = B .. 'run:' .. id, B .. 'end:' .. id, st
  local inbox, notification_token = string.match(token or '', '^(.+)@(.+)$')
  inbox = inbox and B .. 'inbox:' .. inbox
  if size > 0 and size <= 8192 then
    local subscribers = redis.pcall('PUBSUB', 'NUMSUB', channel, inbox or channel)
    local anyone = (subscribers[2] or 0) > 0 or (subscribers[4] or 0) > 0
    if anyone and redis.call('HLEN', k) <= 100 then payload = st .. ' ' .. cjson.encode(redis.call('HGETALL', k)) end
  end
  redis.call('PUBLISH', channel, payload)
  if inbox then redis.call('PUBLISH', inbox, notification_token .. ' ' .. payload) end
end

-- Has a worker give the place of a run back that has ended, or ask for one; name: left | unplaced; later: ms until it asks.
local function pass_on_place(name, id, created, later)
  redis.call('ZADD', B .. name, NOW + (later or 0), id .. '|' .. string.format('%d', created))
  if (later or 0) == 0 then notify_workers(id, 'places') end
end
