-- What a new run writes, whatever it begins with: its record, its context, its places in the indexes.

local keeps_history, overflow_of
do -- a script has 200 locals at most
local kept -- read once

function keeps_history()
  if kept == nil then kept = setting('history', 'on') ~= 'off' end
  return kept
end

-- What is to be done with a run of this blueprint that is one too many, if runs of it count against a limit of concurrent runs: queue,
-- reject or cancelPrevious; nil if they do not. What counts against what is known in the first partition alone, see places.lua.
function overflow_of(blueprint)
  local rules, overflow = redis.call('HMGET', B .. 'run_limits', '*', blueprint), nil
  for i = 1, 2 do
    local found = rules[i] and string.match(rules[i], '^%d*|%d*|(%a+)$')
    if found and overflow ~= 'reject' then overflow = found end
  end
  return overflow
end
end

-- Whether anything lies where a new run's record and history would go, be it a broken record: a new run overwrites nothing.
local function is_taken(id)
  return redis.call('EXISTS', B .. 'run:' .. id, B .. 'events:' .. id, B .. 'logs:' .. id) > 0
end

-- Fields and values of the record and of the context. options: id, blueprint, plan, token, digest, tags, memo, fork, parent,
-- parent_node, root, depth, deadline, start_at, priority, budget, trace, key, abandoned (- if it continues when its parent stops), place (w if the run waits for a place, see places.lua); pairs_: where the context's key, value pairs begin in `options.words`, or in ARGV;
-- active: how many nodes are ready.
local function record_of(options, st, pairs_, active)
  local record = {'bp', options.blueprint, 'plan', options.plan, 'st', st, 'cr', NOW, 'tok', options.token}
  local function add(field, value)
    if value and value ~= '' and value ~= '[]' and value ~= 0 then
      record[#record + 1] = field
      record[#record + 1] = value
    end
  end
  add('live', active)
  add('dg', options.digest)
  add('tags', options.tags)
  add('memo', options.memo)
  add('fork', options.fork)
  add('par', options.parent)
  add('pn', options.parent_node)
  add('root', options.root)
  add('dep', options.depth)
  add('dl', options.deadline)
  add('pr', options.priority)
  add('tp', options.trace)
  add('bg', options.budget)
  add('key', options.key)
  add('pl', options.place)
  add('ab', options.abandoned)
  if not keeps_history() then add('h', 'off') end
  local words = options.words or ARGV
  for i = pairs_, #words, 2 do
    record[#record + 1] = 'c:' .. words[i]
    record[#record + 1] = words[i + 1]
  end
  return record
end

-- That there are runs of other priorities than normal, from now on: then each script heeds it.
local function note_priority(priority)
  if not SHIFTS[priority] or CLAIMING.levels then return end
  CLAIMING.levels = 1
  redis.call('SET', B .. 'claiming', cjson.encode(CLAIMING))
end

local function add_to_indexes(options, st)
  write_beside('HINCRBY', 'plans', options.plan, 1)
  write_beside('ZADD', 'idx:bp:' .. options.blueprint, NOW, options.id)
  write_beside('ZADD', 'idx:st:' .. st, NOW, options.id)
  if options.tags and options.tags ~= '' then
    for _, tag in ipairs(cjson.decode(options.tags)) do write_beside('ZADD', 'idx:tag:' .. tag, NOW, options.id) end
  end
  if options.deadline ~= 0 then set_timer(options.deadline, 'd', options.id) end
end
