-- Whether a worker holds nodes in this partition, without a list of them: its name stands in the state of each.

local MOST_LEASES = 2000 -- that are looked at; more leases count as yes

-- Whether a worker holds a node here beside `member`, or held several when it was lost.
local function holds(worker, member)
  if redis.call('EXISTS', B .. 'lost:' .. worker) == 1 then return true end
  local members = redis.call('ZRANGE', LEASES, 0, MOST_LEASES - 1)
  if #members == MOST_LEASES then return true end
  for _, other in ipairs(members) do
    local id, instance_id = string.match(other, '^([^|]+)|(.+)$')
    local state = other ~= member and id and redis.pcall('HGET', B .. 'run:' .. id, 'n:' .. instance_id)
    if type(state) == 'string' and string.match(state, '^L|%d+|%d+|%d+|%d+|([^!]*)') == worker then return true end
  end
  return false
end
