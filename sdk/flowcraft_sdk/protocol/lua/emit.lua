-- Adds events of a running node to the run's history: progress and custom events.
-- KEYS clock
-- ARGV run instance_id fencing_token events...
--   events: kind (g progress | e custom) and rest of each
-- RETURNS 1, or 0 when the node is no longer the caller's
--@include base limits run plan joins graph loops memory_usage notify closing run_end claimed_node

allow_when_full()
local r, n = held(ARGV.run, ARGV.instance_id, ARGV.fencing_token)
if not r then
  commit()
  return 0
end
for i = ARGV.events, #ARGV, 2 do
  node_event(r, ARGV[i], ARGV.instance_id, ARGV[i + 1])
  if ARGV[i] == 'g' then put(r, 'p:' .. ARGV.instance_id, ARGV[i + 1]) end
end
commit()
return 1
