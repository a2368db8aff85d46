-- Changes of a schedule that commands and publishing have in common.

local function delete_schedule(id)
  redis.call('DEL', schedule_key(id))
  redis.call('ZREM', B .. 'schedules', id)
end

local function pause_schedule(id, queued)
  local key = schedule_key(id)
  redis.call('HSET', key, 'paused', ms(NOW))
  if queued then note_skipped(id, tonumber(queued), 'it was paused') end
  redis.call('HDEL', key, 'queued', 'next')
  redis.call('HINCRBY', key, 'rev', 1)
  look_at(id, nil)
end

-- Ticks up to now do not count.
local function begin_schedule(id)
  redis.call('HSET', schedule_key(id), 'handled', ms(NOW))
  redis.call('HDEL', schedule_key(id), 'next', 'err')
  redis.call('HINCRBY', schedule_key(id), 'rev', 1)
end

local function resume_schedule(id)
  redis.call('HDEL', schedule_key(id), 'paused')
  begin_schedule(id)
  look_at(id, NOW)
end
