-- Pauses, resumes or removes a schedule. Runs that it has started are not affected.
-- KEYS clock
-- ARGV schedule change
--   change: pause | resume (ticks count from now on) | delete
-- RETURNS 1 | 0: there is no such schedule
--@include base schedule schedule_change

local schedule_state = load_schedule(ARGV.schedule)
if not schedule_state.revision then return 0 end
if ARGV.change == 'delete' then
  delete_schedule(ARGV.schedule)
elseif ARGV.change == 'pause' and not schedule_state.paused then
  pause_schedule(ARGV.schedule, schedule_state.queued)
elseif ARGV.change == 'resume' and schedule_state.paused then
  resume_schedule(ARGV.schedule)
  notify_workers(ARGV.schedule, 'schedule')
end
return 1
