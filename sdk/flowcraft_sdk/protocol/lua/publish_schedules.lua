-- Publishes the schedules of a deployment that lie in this partition, and removes those that it does not have any more.
-- A schedule that was there keeps its state. If its ticks are others now, they count from now on.
-- KEYS clock
-- ARGV deployment schedules...
--   deployment: HOST:FILE; those with the same file are copies of one deployment
--   schedules: id, definition (JSON), when (what its ticks depend on), paused (1 | 0: what its file has), and so on
-- RETURNS ids of those that were removed
--@include base schedule schedule_change

local function file_of(deployment)
  return string.match(deployment or '', ':(.*)$')
end

-- @fields published_schedule definition when paused_by_file paused queued
local kept, removed, changed = {}, {}, false
for i = ARGV.schedules, #ARGV, 4 do
  local id, definition, when, paused = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key = schedule_key(id)
  local published_schedule = redis.call('HMGET', key, 'def', 'when', 'filed', 'paused', 'queued')
  kept[id] = true
  redis.call('HSET', key, 'def', definition, 'when', when, 'filed', paused, 'by', ARGV.deployment)
  if not published_schedule.definition then
    redis.call('HSET', key, 'rev', ms(NOW))
    begin_schedule(id)
  elseif published_schedule.when ~= when then
    begin_schedule(id)
  elseif published_schedule.definition ~= definition then
    redis.call('HINCRBY', key, 'rev', 1)
  end
  if paused == '1' and published_schedule.paused_by_file ~= '1' then
    if not published_schedule.paused then pause_schedule(id, published_schedule.queued) end
  elseif paused == '0' and published_schedule.paused_by_file == '1' and published_schedule.paused then
    resume_schedule(id)
  else
    look_at(id, not published_schedule.paused and NOW or nil)
  end
  changed = true
end
for _, id in ipairs(redis.call('ZRANGE', B .. 'schedules', 0, -1)) do
  if not kept[id] and file_of(redis.call('HGET', schedule_key(id), 'by')) == file_of(ARGV.deployment) then
    delete_schedule(id)
    removed[#removed + 1] = id
  end
end
if changed then notify_workers('', 'schedule') end
return removed
