-- Gives a waiting node its answer: output and action. Applied once per signal id.
-- KEYS clock
-- ARGV run inst ('' when exactly one node waits) signal_id action payload (JSON)
-- RETURNS {ok, inst} | {duplicate, inst} | {missing} | {ended, status} | {not-waiting, waiting inst ...}
--@include base run graph loops ending stopping

local r = load_run(ARGV[1])
if not r then return {'missing'} end
local seen = get(r, 'sg:' .. ARGV[3])
if seen then return {'duplicate', seen} end
if TERMINAL[r.st] then return {'ended', r.st} end

local waiting = {}
each_node(r, function(inst, n)
  if n.s == 'W' and (n.more == 'signal' or n.more == 'webhook') then waiting[#waiting + 1] = inst end
end)
local target = ARGV[2]
if target == '' and #waiting == 1 then target = waiting[1] end
local n
for _, inst in ipairs(waiting) do
  if inst == target then n = node_state(r, inst) end
end
if not n then return {'not-waiting', unpack(waiting)} end

put(r, 'sg:' .. ARGV[3], target)
put(r, 'v:' .. target, ARGV[5])
redis.call('ZREM', B .. 'timers', 'W|' .. r.id .. '|' .. target)
event(r, 'i', target, ARGV[4])
ready_with(r, target, n, {'signal', ARGV[4]})
commit()
return {'ok', target}
