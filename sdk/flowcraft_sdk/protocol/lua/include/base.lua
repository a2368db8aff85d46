-- What every script begins with. KEYS[1] is the clock key: it pins the slot, and B, the prefix of the partition's keys,
-- is cut from it. NOW is milliseconds. In a deployment of several partitions KEYS[2] is the channel on which its workers are
-- notified of ready nodes; in one of a single partition they sleep on a list, and there is none.

local B, WAKE = string.sub(KEYS[1], 1, -6), KEYS[2]
local NOW, CLAIMING = nil, {}
do -- a script has 200 locals at most
  local time = redis.call('TIME')
  -- What holds for all claims of the partition is read along with the clock, as a read of its own would cost each call:
  -- `claiming` is JSON, {"paused": {queue: since when}, "levels": 1 once a run with another priority than normal was started}.
  local heeded = redis.call('MGET', KEYS[1], B .. 'claiming')
  NOW = time[1] * 1000 + math.floor(time[2] / 1000) + (tonumber(heeded[1] or 0) or 0)
  if heeded[2] then
    local readable, found = pcall(cjson.decode, heeded[2])
    if readable and type(found) == 'table' then CLAIMING = found end -- else no script has written it
  end
end
local PAUSED = type(CLAIMING.paused) == 'table' and CLAIMING.paused or {} -- queues that nothing is claimed from

local LEASES = B .. 'leases'
local TERMINAL = {completed = true, failed = true, cancelled = true, timed_out = true}
local STATUSES = {scheduled = true, queued = true, running = true, waiting = true, cancelling = true, completed = true,
                  failed = true, cancelled = true, timed_out = true}

local function setting(name, default)
  return redis.call('HGET', B .. 'settings', name) or default
end

-- An error as text. Redis before 7 has texts for errors, else they are tables.
local function text_of(problem)
  return type(problem) == 'table' and problem.err or tostring(problem)
end

-- Why Redis refuses for now, or refuses this user: no fault of the record or entry at hand.
local REFUSALS = {OOM = true, MISCONF = true, READONLY = true, NOREPLICAS = true, MASTERDOWN = true, NOPERM = true, LOADING = true}

local function is_refusal(text)
  return REFUSALS[string.match(text, '^%-?(%u+)')] or string.find(text, 'NOPERM', 1, true)
    or string.find(text, "can't run this command", 1, true) or string.find(text, 'no permission', 1, true)
end

-- Ms since a run was created, and no less than `least`: the clock of Redis may have been set back.
local function elapsed(created, least)
  return math.max(tonumber(least) or 0, NOW - created)
end

-- Raises that a run's record is none, or holds what no script writes there.
local function refuse_record(id, problem)
  if is_refusal(problem) then error(problem, 0) end
  error('BROKENRECORD the record of run ' .. id .. ' cannot be read: ' .. problem, 0)
end

-- Sets aside what cannot be read, so that the rest continues: field `PLACE ENTRY` of the hash `broken`, value `time|problem`.
-- The doctor lists these, and puts back what can be read again. place: the sorted set, `run` for a record, `key` for a key.
-- Raises the problem if Redis refuses for another reason.
local function set_aside(place, entry, problem)
  local text = text_of(problem)
  if is_refusal(text) then error(problem, 0) end
  redis.pcall('HINCRBY', B .. 'stats', 'broken', 1)
  local MOST_BROKEN = 1000
  local key, field = B .. 'broken', place .. ' ' .. entry
  if redis.pcall('HLEN', key) ~= MOST_BROKEN or redis.pcall('HEXISTS', key, field) == 1 then
    redis.pcall('HSET', key, field, string.format('%.0f|', NOW) .. string.sub(text, 1, 300))
  end
end

-- A write to a key that helps to find, count or follow runs. If a key of another type has its name, runs continue without it.
local function write_beside(command, name, ...)
  local reply = redis.pcall(command, B .. name, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  set_aside('key', name, reply)
end

-- Lets this call write although Redis' memory is full: Redis refuses a script's first write then, unless it frees memory.
local function allow_when_full()
  redis.pcall('ZREM', B .. 'workers', '')
end

-- A list from its `from`-th element to its `to`-th, the last by default. Lua's stack takes some 8,000 at once.
local function part_of(list, from, to)
  to = to or #list
  if to - from < 1000 then return {unpack(list, from, to)} end -- 1,000 at most
  local part = {}
  for i = from, to do part[#part + 1] = list[i] end
  return part
end

-- The values of a hash's fields, false where absent, however many.
local function read_fields(key, fields)
  if #fields <= 1000 then return redis.call('HMGET', key, unpack(fields)) end -- 1,000 at most
  local values = {}
  for from = 1, #fields, 1000 do
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, from, math.min(from + 999, #fields)))) do
      values[#values + 1] = value
    end
  end
  return values
end

-- Writes fields of a hash, given as field, value, ...
local function write_fields_of(key, pairs_)
  if #pairs_ <= 2000 then return redis.call('HSET', key, unpack(pairs_)) end -- 2,000 at most
  for from = 1, #pairs_, 2000 do redis.call('HSET', key, unpack(pairs_, from, math.min(from + 1999, #pairs_))) end
end

-- Owner and index of an item of a batch (`node[7]`), nil for any other instance.
local function item_of(instance_id)
  if string.byte(instance_id, -1) == 93 then return string.match(instance_id, '^(.+)%[(%d+)%]$') end
end

-- A fencing token is `CLAIMS:CREATED`: how often the node was claimed, and when its run was created, in ms. A run id may be used
-- again, once its run was removed or Redis came back without it: the token of the run before is none of the new one's.
local function claims_of(token)
  return tonumber(string.match(token, '^%d+'))
end

-- Whether a token is of the run that was created then. One that does not say, as an older worker's, is.
local function is_incarnation(created, token)
  local named = string.match(token, ':(%d+)$')
  return not named or tonumber(named) == tonumber(created)
end

-- The hash with the items and results of a batch. Run ids hold no '|', so no run and owner share a key with another pair.
local function batch_key(id, owner)
  return B .. 'batch:' .. id .. '|' .. owner
end

-- Whether a queue is one of a worker's, which are given comma separated, and nodes of it may be claimed.
local function serves(queues, queue)
  if PAUSED[queue] then return false end
  return queues == queue or string.find(',' .. queues .. ',', ',' .. queue .. ',', 1, true) ~= nil
end

-- What is to be noted before a node writes a context key, nil where nothing is: what the key was at the start of the run ('' for
-- nothing), kept once; and the nodes that have written it, one a line, `*` if they are too many.
local function before_write(k, key, instance_id)
  local v = redis.call('HMGET', k, 'u:' .. key, 'c:' .. key, 'cw:' .. key)
  local node, writers = instance_id and (item_of(instance_id) or instance_id), v[3]
  if not node or writers == '*' or writers and string.find('\n' .. writers .. '\n', '\n' .. node .. '\n', 1, true) then
    writers = nil
  else
    writers = writers and writers .. '\n' .. node or v[1] and '*' or node -- an older server has noted the start value alone
    if #writers > 4000 then writers = '*' end -- bytes
  end
  return not v[1] and (v[2] or '') or nil, writers
end

-- Appends to a run's history, which is capped; `ev0` counts what was cut off.
local function add_events(id, events)
  local name, length = 'events:' .. id, 0
  for from = 1, #events, 2000 do
    length = write_beside('RPUSH', name, unpack(events, from, math.min(from + 1999, #events)))
    if not length then return end
  end
  local cap = tonumber(length > 1000 and setting('events', '10000') or 10000)
  if length > cap then
    redis.call('LTRIM', B .. name, length - cap, -1)
    redis.call('HINCRBY', B .. 'run:' .. id, 'ev0', length - cap)
  end
end

-- A timer, as member of the sorted set `timers`: `KIND|run|node`.
--   T a retry is due; W a sleep or a wait ends; p the plan was missing when the node was to be claimed;
--   of a run as a whole, without node: b its scheduled start, d its deadline, g the end of its grace, c something is left `todo`.
local function timer_of(kind, id, instance_id)
  return kind .. '|' .. id .. '|' .. (instance_id or '')
end

local function set_timer(at, kind, id, instance_id)
  redis.call('ZADD', B .. 'timers', at, timer_of(kind, id, instance_id))
end

-- Notifies the subscribers of a run that it has changed; `status`: that it has ended so.
local function notify_run(k, status)
  redis.call('PUBLISH', k, status or '')
end

-- Notifies all workers: that a run stops (`what` is why, or `over` when its grace is), with the time of its creation, as another
-- run may have its id by then; `goes-on`: that a sweep is due; or `places`: that it asks for a place, or gives one back.
local function notify_workers(id, what, created)
  redis.call('PUBLISH', B .. 'control', id .. '|' .. what .. (created and '|' .. string.format('%d', created) or ''))
end

-- Notifies all workers that a message was sent to a node.
local function notify_message(id, instance_id)
  redis.call('PUBLISH', B .. 'messages', id .. '|' .. instance_id)
end

-- A wake-up message, as Huey reads it.
local function message(id, instance_id)
  if not string.find(instance_id, '[%c"\\]') then -- as nearly always: no other character is escaped
    return '["' .. id .. '/' .. instance_id .. '","flowcraft.work",["' .. id .. '","' .. instance_id .. '",0]]'
  end
  return cjson.encode({id .. '/' .. instance_id, 'flowcraft.work', {id, instance_id, 0}})
end

-- Wakes as many workers as sleep for nodes that became ready in a queue. A message is a hint: losing it loses no work.
-- messages: of these nodes, or of some.
local function wake_workers(queue, count, messages)
  if PAUSED[queue] then return end
  if WAKE then -- once, when the queue was empty: a worker that is notified claims until it is empty again
    local ready = redis.call('ZCARD', B .. 'ready:' .. queue)
    if ready <= count then redis.call('PUBLISH', WAKE, string.format('%d ', ready) .. queue) end
    return
  end
  local wake, texts = B .. 'q:' .. queue, {}
  for i = 1, math.min(count, 64 - redis.call('LLEN', wake)) do texts[i] = messages(i) end
  if #texts > 0 then redis.call('LPUSH', wake, unpack(texts)) end -- 64 at most
end

-- Nodes are claimed in the order of their scores in `ready:QUEUE`. A node of a run with high priority counts as if it had been
-- ready for an hour longer, one of a run with low priority as if for an hour less: so no node waits longer than an hour behind
-- those of the next higher priority that became ready later. The fraction of the score is the mark of the priority.
local SHIFTS = {high = 0.25 - 3600000, low = 0.5 + 3600000}

-- priority: that of the run, nil if it is to be read.
local function score_of(id, priority)
  if not CLAIMING.levels then return NOW end
  priority = priority or redis.call('HGET', B .. 'run:' .. id, 'pr')
  return NOW + (SHIFTS[priority] or 0)
end

-- The priority that a score stands for, from -1 to 1, and since when its node is ready.
local function level_of(score)
  local fraction = score % 1
  if fraction == 0.25 then return 1, score - SHIFTS.high end
  if fraction == 0.5 then return -1, score - SHIFTS.low end
  return 0, score
end

-- Whether a node that becomes ready may be handed to the worker that asks, ahead of those in its queue. Not ahead of one with a
-- higher priority, or with a lower one that has waited for its hour.
local function goes_first(id, queue)
  if not CLAIMING.levels then return true end
  local first = redis.call('ZRANGE', B .. 'ready:' .. queue, 0, 0, 'WITHSCORES')
  if not first[2] then return true end
  local own, other = score_of(id), tonumber(first[2])
  local own_level, other_level = level_of(own), level_of(other)
  return own_level == other_level or own_level > other_level and own < other
end

-- The queue of a plan entry, and the limit that the node counts against, nil for none: `QUEUE@LIMIT`, see limits.lua.
local function limit_in(queue)
  local at = string.find(queue, '@', 1, true)
  if not at then return queue, nil end
  return string.sub(queue, 1, at - 1), string.sub(queue, at + 1)
end

local touched_limits = {} -- by name: those that nodes wait for since this call, or of which it has freed slots

-- Puts ready nodes where workers find them, and wakes these; or where they wait for their limit. priority: as for `score_of`.
local function enqueue(id, queue, instance_ids, priority)
  local members, score, _, limit = {}, score_of(id, priority), limit_in(queue)
  local place = limit and B .. 'limited:' .. limit or B .. 'ready:' .. queue
  for i, instance_id in ipairs(instance_ids) do
    members[#members + 1] = score
    members[#members + 1] = id .. '|' .. instance_id
    if i % 1000 == 0 or i == #instance_ids then
      redis.call('ZADD', place, unpack(members)) -- 2,000 at most
      members = {}
    end
  end
  if limit then
    touched_limits[limit] = true
    return
  end
  wake_workers(queue, #instance_ids, function(i) return message(id, instance_ids[i]) end)
end
