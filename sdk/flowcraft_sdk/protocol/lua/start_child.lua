-- Starts a child run for a subflow node and parks the node until the child ends, in one commit.
-- KEYS clock
-- ARGV run instance_id fencing_token blueprint plan max_depth timeout_ms context...
--   plan: the one that is taken for the current one, '' for any; context: key value of each of the child's
--   timeout_ms: after which the child is stopped, 0 for never; its parent's deadline is its own as well
-- The child's id is PARENT~NUMBER, which no user can give a run; a number whose id is taken all the same is passed over.
-- RETURNS {ok, child run id} | {taken, child run id}: so are the next ones | {stale|already} | {no-blueprint} | {other-plan}: that plan is not, or no longer, the current one
--   | {too-deep} | {stopping} (the node is cancelled)
--@include base run plan joins graph loops memory_usage notify run_end claimed_node run_record child_run

local MOST_TAKEN = 1000 -- ids that are tried
local id, instance_id, blueprint = ARGV.run, ARGV.instance_id, ARGV.blueprint
local r, n = held(id, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return {n}
end
local plan = redis.call('HGET', B .. 'blueprints', blueprint)
if not plan then return {'no-blueprint'} end
if ARGV.plan ~= '' and ARGV.plan ~= plan then return {'other-plan'} end
-- @fields parent_run root depth deadline kids
local parent_run = redis.call('HMGET', r.k, 'root', 'dep', 'dl', 'kids')
local depth = tonumber(parent_run.depth or 0) + 1
if depth > tonumber(ARGV.max_depth) then return {'too-deep'} end
local number = (tonumber(parent_run.kids or 0) or 0) + 1
local most = number + MOST_TAKEN
while is_taken(id .. '~' .. number) do
  number = number + 1
  if number > most then return {'taken', id .. '~' .. number - 1} end
end

if not leave_claim(r, instance_id, n) then
  commit()
  return {'stopping'}
end
local deadline, timeout = tonumber(parent_run.deadline) or 0, tonumber(ARGV.timeout_ms)
if timeout > 0 and (deadline == 0 or NOW + timeout < deadline) then deadline = NOW + timeout end
local child_id = id .. '~' .. number
put(r, 'kids', number)
put(r, 'k:' .. child_id, instance_id)
put(r, 'w:' .. instance_id, child_id)
park_node(r, instance_id, n, 'subflow')
local child = create_run({id = child_id, blueprint = blueprint, plan = plan, token = '', digest = '', tags = '', memo = '',
                          parent = id, parent_node = instance_id, root = parent_run.root or id, depth = depth,
                          deadline = deadline, start_at = 0}, ARGV.context)
begin_run(child)
commit()
return {'ok', child_id}
