-- What a call writes for each node, and that can be written together when the call is about many: the leases that end and
-- begin, and the events of a run. And followers of a run need to be told once that there is news.

local ended_leases, begun_leases, noted, told -- nil: nothing is collected, each is written at once

local function collect()
  ended_leases, begun_leases, noted, told = {}, {}, {}, {}
end

-- Writes what was collected, and collects anew.
local function write_collected()
  if ended_leases[1] then redis.call('ZREM', B .. 'leases', unpack(ended_leases)) end
  if begun_leases[1] then redis.call('ZADD', B .. 'leases', unpack(begun_leases)) end
  for k, events in pairs(noted) do add_events(k, events) end
  collect()
end

local function end_lease(member)
  if not told then return redis.call('ZREM', B .. 'leases', member) end
  ended_leases[#ended_leases + 1] = member
end

local function begin_lease(member, lease)
  local due = string.format('%d', NOW + lease)
  if not told then return redis.call('ZADD', B .. 'leases', due, member) end
  begun_leases[#begun_leases + 1] = due
  begun_leases[#begun_leases + 1] = member
end

-- Adds to a run's history; `now`: at once, with what was collected for it.
local function note(k, events, now)
  local list = told and noted[k]
  for _, event in ipairs(list and events or {}) do list[#list + 1] = event end
  if told and not now then
    noted[k] = list or events
    return
  end
  if list then noted[k] = nil end
  add_events(k, list or events)
end

local function tell(k)
  if told and told[k] then return end
  if told then told[k] = true end
  redis.call('PUBLISH', k, '')
end
