-- Adds events of a running node to the run's history: progress and custom events.
-- KEYS clock
-- ARGV run instance_id fencing_token, then kind (g progress | e custom) rest ...
-- RETURNS 1, or 0 when the node is no longer the caller's
--@include base run joins graph loops memory_usage run_end claimed_node

allow_when_full()
local r, n = held(ARGV[1], ARGV[2], ARGV[3])
if not r then
  commit()
  return 0
end
for i = 4, #ARGV, 2 do
  node_event(r, ARGV[i], ARGV[2], ARGV[i + 1])
  if ARGV[i] == 'g' then put(r, 'p:' .. ARGV[2], ARGV[i + 1]) end
end
commit()
return 1
