-- Asks a run and its children to stop.
-- KEYS clock
-- ARGV run reason grace_ms
--   grace_ms: 0 ends it now, whatever still runs
-- RETURNS {1, status}: cancellation is in force, or the run closes already | {0, status}: the run had ended | {missing}
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_stop

allow_when_full()
local r = load_run(ARGV.run)
if not r then return {'missing'} end
if TERMINAL[r.st] then return {0, r.st} end
if closing_of(r) then return {1, r.st} end
local grace = tonumber(ARGV.grace_ms)
if not r.stop then
  put(r, 'cx', cjson.encode({reason = ARGV.reason, at = NOW, grace = grace}))
  event(r, 'X', '', ARGV.reason)
  stop_run(r, 'cancel', grace)
end
if grace == 0 then force_stop(r) end
commit()
return {1, r.st}
