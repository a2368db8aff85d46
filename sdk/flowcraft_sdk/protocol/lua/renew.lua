-- Renews the leases of the nodes that a worker really runs, and returns which of them to give up.
-- KEYS clock
-- ARGV worker lease_ms held...
--   held: run instance_id fencing_token of each
-- RETURNS a list of run, instance_id, lost|stopping for the nodes that are no longer the worker's or whose run stops
--@include base limits run

allow_when_full()
local given_up = {}
write_beside('ZADD', 'workers', NOW, ARGV.worker)
for i = ARGV.held, #ARGV, 3 do
  local id, instance_id = ARGV[i], ARGV[i + 1]
  local v = redis.pcall('HMGET', B .. 'run:' .. id, 'n:' .. instance_id, 'stop', 'cr')
  local s, claims = string.match(v[1] or '', '^(%a)|%d+|(%d+)')
  if s == 'L' and tonumber(claims) == claims_of(ARGV[i + 2]) and is_incarnation(v[3], ARGV[i + 2]) then
    redis.call('ZADD', B .. 'leases', NOW + tonumber(ARGV.lease_ms), id .. '|' .. instance_id)
    if v[2] then
      given_up[#given_up + 1] = id; given_up[#given_up + 1] = instance_id; given_up[#given_up + 1] = 'stopping'
    end
  else
    given_up[#given_up + 1] = id; given_up[#given_up + 1] = instance_id; given_up[#given_up + 1] = 'lost'
  end
end
return given_up
