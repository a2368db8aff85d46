-- Makes a node ready that was parked until there is room for its model call.
-- KEYS clock
-- ARGV run instance_id
-- RETURNS {ok} | {ready}: it is so already | {running}: it has come by itself, or is about to be parked | {gone}
--@include base limits run plan joins graph loops memory_usage notify closing run_end

local id, instance_id = ARGV.run, ARGV.instance_id
local r = load_run(id, {'n:' .. instance_id})
local n = r and not TERMINAL[r.st] and node_state(r, instance_id)
if not n then return {'gone'} end
if n.s == 'R' then return {'ready'} end
if n.s == 'L' then return {'running'} end
if n.s ~= 'W' or n.more ~= 'model' then return {'gone'} end
drop_timer(r, 'W', instance_id)
resume(r, instance_id, n)
commit()
return {'ok'}
