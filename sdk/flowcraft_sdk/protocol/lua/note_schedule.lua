-- Notes what became of a schedule's ticks that are not started, and when it is to be looked at again.
-- KEYS clock
-- ARGV schedule revision what tick text following due
--   revision: of the state that this was decided by; with another one nothing is noted
--   what: looked (nothing is due) | missed (it is too late for `tick` and those up to `text`, in ms) | failed (`tick` cannot be started, `text` is why)
--   following: the next ticks as JSON; due: ms, or '' for never
-- RETURNS 1 | 2: it failed, for another reason than before | 0: the schedule is gone or has changed
--@include base schedule

local schedule_state = load_schedule(ARGV.schedule)
if not schedule_state.revision then
  redis.call('ZREM', B .. 'schedules', ARGV.schedule)
  return 0
end
if tonumber(schedule_state.revision) ~= tonumber(ARGV.revision) then return 0 end
if schedule_state.paused then
  look_at(ARGV.schedule, nil)
  return 1
end
local key, due, new_error = schedule_key(ARGV.schedule), tonumber(ARGV.due), false
if schedule_state.queued and ARGV.what ~= 'failed' then due = math.min(due or NOW + LOOK_AGAIN, NOW + LOOK_AGAIN) end
if ARGV.what == 'missed' then
  note_skipped(ARGV.schedule, tonumber(ARGV.tick), 'missed')
  note_handled(ARGV.schedule, tonumber(ARGV.text), ARGV.following, due)
  return 1
end
if ARGV.what == 'failed' then
  new_error = string.match(redis.call('HGET', key, 'err') or '', '^%d+|%d+|(.*)$') ~= ARGV.text
  redis.call('HSET', key, 'err', ms(NOW) .. '|' .. ms(tonumber(ARGV.tick)) .. '|' .. ARGV.text)
  redis.call('HINCRBY', key, 'rev', 1)
end
redis.call('HSET', key, 'next', ARGV.following)
look_at(ARGV.schedule, due)
return new_error and 2 or 1
