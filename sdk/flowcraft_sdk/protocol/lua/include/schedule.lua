-- A schedule: the hash `schedule:ID`, in the partition of its runs, and its place in the sorted set `schedules`, by when it is to be
-- looked at next. `rev` grows with each change: what was decided by an older state is refused.

local LOOK_AGAIN = 250 -- ms after which it is looked whether a run that a tick waits for has ended

-- @fields schedule_state revision handled paused run triggered queued

local function schedule_key(id)
  return B .. 'schedule:' .. id
end

local function load_schedule(id)
  return redis.call('HMGET', schedule_key(id), 'rev', 'handled', 'paused', 'run', 'trig', 'queued')
end

-- Has a schedule looked at at a time in ms; at no time if that is nil.
local function look_at(id, at)
  redis.call('ZADD', B .. 'schedules', at or '+inf', id)
end

local function ms(number)
  return string.format('%.0f', number)
end

-- Notes a tick that is not started, and why.
local function note_skipped(id, tick, why)
  redis.call('HINCRBY', schedule_key(id), 'skips', 1)
  redis.call('HSET', schedule_key(id), 'skip', ms(tick) .. '|' .. why)
end

-- Ticks up to `handled` have been dealt with; `following`: the ticks after it, as JSON; at `due` the schedule is to be looked at.
local function note_handled(id, handled, following, due)
  redis.call('HSET', schedule_key(id), 'handled', ms(handled), 'next', following)
  redis.call('HINCRBY', schedule_key(id), 'rev', 1)
  look_at(id, due)
end

local function is_going_on(id)
  local status = id and redis.call('HGET', B .. 'run:' .. id, 'st')
  return status and not TERMINAL[status] and {id, status}
end

-- Why the start of a schedule's run is not to be made, as the reply of `start`; nil if it is. A tick that waits or is left out
-- because of a run that continues is noted here.
local function refuse_scheduled(start)
  local schedule_state = load_schedule(start.id)
  if not schedule_state.revision then return {'tick', 'gone'} end
  local tick = start.tick
  if not tick then return nil end -- it is triggered
  local queued = tonumber(schedule_state.queued)
  if tonumber(schedule_state.revision) ~= start.revision or schedule_state.paused then return {'tick', 'changed'} end
  if start.queued and queued ~= tick or not start.queued and tick <= tonumber(schedule_state.handled) then return {'tick', 'changed'} end
  local before = is_going_on(schedule_state.run) or is_going_on(schedule_state.triggered)
  if not before then return nil end
  if start.queued then
    look_at(start.id, NOW + LOOK_AGAIN)
    return {'tick', 'waiting', before[1], before[2]}
  end
  if start.missed then note_skipped(start.id, start.missed, 'missed') end
  if start.overlap == 'skip' then
    note_skipped(start.id, tick, 'run ' .. before[1] .. ' was going on')
  elseif start.overlap == 'queue' and queued then
    note_skipped(start.id, tick, 'an earlier tick was waiting')
  else
    if queued then note_skipped(start.id, queued, 'a later tick took its place') end
    redis.call('HSET', schedule_key(start.id), 'queued', ms(tick))
    note_handled(start.id, tick, start.following, NOW + LOOK_AGAIN)
    return {'tick', 'queued', before[1], before[2]}
  end
  note_handled(start.id, tick, start.following, queued and NOW + LOOK_AGAIN or start.due)
  return {'tick', 'skipped', before[1], before[2]}
end

-- Notes that a schedule's run was started.
local function note_scheduled(start, run_id)
  local key = schedule_key(start.id)
  if not start.tick and redis.call('HGET', key, 'trig') == run_id then return end -- the call was sent twice
  redis.call('HINCRBY', key, 'starts', 1)
  if not start.tick then
    redis.call('HSET', key, 'trig', run_id)
    redis.call('HINCRBY', key, 'rev', 1)
    return
  end
  redis.call('HSET', key, 'run', run_id, 'tick', ms(start.tick))
  redis.call('HDEL', key, 'err')
  if start.queued then
    redis.call('HDEL', key, 'queued')
    redis.call('HINCRBY', key, 'rev', 1)
    look_at(start.id, NOW)
    return
  end
  if start.missed then note_skipped(start.id, start.missed, 'missed') end
  note_handled(start.id, start.tick, start.following, start.due)
end
