-- Looks over some nodes of a run with many fields, and repairs what is safe to repair. Without `fix` it writes nothing. The run
-- may change between two pieces: each returns what holds when it is looked at.
-- KEYS clock
-- ARGV run cursor count fix
--   fix: 1 | 0
-- RETURNS {cursor of the next piece, '0' at the end; active nodes; parked nodes; kind subject fixed (1|0) for each defect}; in place
--   of the cursor `whole` when the run can only be looked over at once: it is gone, or a record that must be mended
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_stop batch node_failure run_checks

local id, fix = ARGV.run, ARGV.fix == '1'
local fine, r = pcall(load_run, id)
if not fine or not r or redis.call('EXISTS', B .. 'plan:' .. r.plan) == 0 then return {'whole', {}, {}, {}} end
local ended = TERMINAL[r.st]
local active, parked, found = {}, {}, {}

local function defect(kind, subject, repair)
  found[#found + 1] = kind
  found[#found + 1] = subject
  found[#found + 1] = fix and repair and 1 or 0
  if fix and repair then repair() end
end

local piece = redis.call('HSCAN', r.k, ARGV.cursor, 'MATCH', 'n:*', 'COUNT', ARGV.count)
for i = 1, #piece[2], 2 do
  local instance_id = string.sub(piece[2][i], 3)
  local readable, n = pcall(node_state, r, instance_id)
  if not readable then return {'whole', {}, {}, {}} end
  if n and not ended then
    if ACTIVE[n.s] then active[#active + 1] = instance_id end
    if is_parked(r, instance_id, n) then parked[#parked + 1] = instance_id end
    examine_node(r, instance_id, n, defect)
  end
end
if fix then commit() end
return {piece[1], active, parked, found}
