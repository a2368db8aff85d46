-- What a new run writes, whatever it begins with: its record, its context, its places in the indexes.

local function keeps_history()
  return setting('history', 'on') ~= 'off'
end

-- Whether anything lies where a new run's record and history would go, be it a broken record: a new run overwrites nothing.
local function is_taken(id)
  return redis.call('EXISTS', B .. 'run:' .. id, B .. 'events:' .. id) > 0
end

-- Fields and values of the record and of the context. options: id, blueprint, plan, token, digest, tags, memo, fork, parent,
-- parent_node, root, depth, deadline, start_at; pairs_: where the context's key, value pairs begin in ARGV;
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
  if not keeps_history() then add('h', 'off') end
  for i = pairs_, #ARGV, 2 do
    record[#record + 1] = 'c:' .. ARGV[i]
    record[#record + 1] = ARGV[i + 1]
  end
  return record
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
