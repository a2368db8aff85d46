-- Begins a run that has got its place among the concurrent runs.
-- KEYS clock
-- ARGV run created
--   created: when the run was, in ms
-- RETURNS begun (now or before) | over: it has ended, or there is none that was created then
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_record child_run batch take_over

local r = load_run(ARGV.run)
redis.call('ZREM', B .. 'unplaced', ARGV.run .. '|' .. ARGV.created)
if not r or r.cr ~= tonumber(ARGV.created) or TERMINAL[r.st] then return 'over' end
if get(r, 'pl') ~= 'w' then return 'begun' end
put(r, 'pl', 'h')
local work = get(r, 'pw')
if work then -- of a run that does another one again
  put(r, 'pw', false)
  event(r, 'B', '')
  r.work = cjson.decode(work)
  maybe_finish(r)
else
  begin_run(r)
end
commit()
return 'begun'
