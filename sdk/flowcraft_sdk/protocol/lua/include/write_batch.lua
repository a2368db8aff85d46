-- What a call writes for each node or run, and that can be written together when the call is about many: entries of sorted
-- sets and the events of a run. And subscribers to a run are notified once that it has changed.

local added, removed, noted, notified -- by key, `noted` by run id; nil: nothing is collected, each is written at once

local function collect()
  added, removed, noted, notified = {}, {}, {}, {}
end

-- Writes what was collected, and collects anew.
local function write_collected()
  for name, members in pairs(removed) do
    for from = 1, #members, 1000 do write_beside('ZREM', name, unpack(members, from, math.min(from + 999, #members))) end
  end
  for name, entries in pairs(added) do
    for from = 1, #entries, 1000 do write_beside('ZADD', name, unpack(entries, from, math.min(from + 999, #entries))) end
  end
  for id, events in pairs(noted) do add_events(id, events) end
  collect()
end

-- name: of the sorted set, without B.
local function remove_entry(name, member)
  if not notified then return write_beside('ZREM', name, member) end
  local members = removed[name]
  if not members then
    removed[name] = {member}
  else
    members[#members + 1] = member
  end
end

-- Not for an entry that the same call removes afterwards.
local function add_entry(name, score, member)
  if not notified then return write_beside('ZADD', name, score, member) end
  local entries = added[name]
  if not entries then
    added[name] = {score, member}
  else
    entries[#entries + 1] = score
    entries[#entries + 1] = member
  end
end

-- Adds to the history of run `id`; `now`: at once, with what was collected for it.
local function note(id, events, now)
  local list = notified and noted[id]
  for _, event in ipairs(list and events or {}) do list[#list + 1] = event end
  if notified and not now then
    noted[id] = list or events
    return
  end
  if list then noted[id] = nil end
  add_events(id, list or events)
end

local function notify_once(k)
  if notified and notified[k] then return end
  if notified then notified[k] = true end
  notify_run(k)
end
