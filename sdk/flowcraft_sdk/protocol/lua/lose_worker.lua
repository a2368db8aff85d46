-- Gives up, at once, the nodes of a worker whose process has ended: whatever started the process has seen that.
-- A bounded slice of the leases is looked at in a call.
-- KEYS clock
-- ARGV worker first count max_crashes alone evidence executed...
--   alone: 1: with several partitions, the worker held nothing in all others
--   evidence: 1: `executed` is all that the process executed when it ended | 0: that is not known; executed: run instance_id
--   fencing_token of each
-- RETURNS {position of the next slice, -1 when there is none; how many nodes were given up}
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_stop claimed_node batch node_failure held_nodes lost_worker

local worker, first, count_, max_crashes = ARGV.worker, tonumber(ARGV.first), tonumber(ARGV.count), tonumber(ARGV.max_crashes)
local executed = {}
if ARGV.alone == '1' then alone_elsewhere[worker] = true end
for i = ARGV.executed, #ARGV, 3 do executed[ARGV[i] .. '|' .. ARGV[i + 1]] = ARGV[i + 2] end

local members, lost = redis.call('ZRANGE', LEASES, first, first + count_ - 1), 0

local function give_up(member)
  local id, instance_id = string.match(member, '^([^|]+)|(.+)$')
  local r = id and load_run(id)
  local n = r and not TERMINAL[r.st] and node_state(r, instance_id)
  if n and n.s == 'L' and string.match(n.more, '^[^!]*') == worker then
    drop_lease(r, instance_id)
    lost = lost + 1
    if plan_gone(r) then
      lose_plan(r, instance_id)
    elseif ARGV.evidence == '1' then
      local token = executed[member]
      lose_node(r, instance_id, n, max_crashes, token ~= nil and claims_of(token) == n.claims and is_incarnation(r.cr, token))
    else
      lose_node(r, instance_id, n, max_crashes)
    end
    commit()
  end
end

for _, member in ipairs(members) do
  forget_runs()
  pcall(give_up, member) -- the lease of what cannot be read runs out, and is set aside then
end
if #members == count_ then return {first + count_ - lost, lost} end
redis.call('ZREM', B .. 'workers', worker)
redis.call('UNLINK', B .. 'worker:' .. worker)
return {-1, lost}
