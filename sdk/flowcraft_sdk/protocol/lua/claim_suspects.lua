-- Claims a group of nodes that are suspected of having ended their worker, to be run apart: as many together as the one with
-- the most points allows.
-- KEYS clock
-- ARGV worker lease_ms queues
--   queues: comma separated
-- RETURNS a list of claims (see include/claim.lua), empty when there are no suspects
--@include base limits write_batch plan joins claim run graph loops memory_usage notify closing run_end run_stop claimed_node batch node_failure held_nodes lost_worker

local group, bound = {}, 32
for queue in string.gmatch(ARGV.queues, '[^,]+') do
  local ready = B .. 'ready:' .. apart(queue)
  for _, member in ipairs(PAUSED[queue] and {} or redis.call('ZRANGE', ready, 0, 63)) do
    local id, instance_id = string.match(member, '^([^|]+)|(.+)$')
    local points = id and tonumber(redis.pcall('HGET', B .. 'run:' .. id, 'q:' .. instance_id) or 0) or 0
    local most = math.min(bound, group_of(points))
    if #group < most then
      group[#group + 1], bound = {apart(queue), member, id, instance_id}, most
    end
  end
end
GROUP = '!' .. #group
local claims, records = {}, {}
collect()
for _, each in ipairs(group) do
  redis.call('ZREM', B .. 'ready:' .. each[1], each[2])
  local fine, claim = pcall(take, each[3], each[4], ARGV.worker, ARGV.lease_ms, false, records)
  if not fine then set_aside('ready:' .. each[1], each[2], claim) elseif claim then claims[#claims + 1] = claim end
end
write_collected()
return claims
