-- A new run: its record, its context, its indexes.

-- options: id, blueprint, plan, token, digest, tags, memo, fork, parent, parent_node, root, depth, deadline, start_at.
-- pairs_: where the context's key, value pairs begin in ARGV.
local function create_run(options, pairs_)
  local k = B .. 'run:' .. options.id
  local st = options.start_at > NOW and 'scheduled' or 'queued'
  local record = {'bp', options.blueprint, 'plan', options.plan, 'st', st, 'cr', NOW, 'tok', options.token, 'live', 0}
  local function add(field, value)
    if value and value ~= '' and value ~= '[]' and value ~= 0 then
      record[#record + 1] = field
      record[#record + 1] = value
    end
  end
  add('dg', options.digest)
  add('tags', options.tags)
  add('memo', options.memo)
  add('fork', options.fork)
  add('par', options.parent)
  add('pn', options.parent_node)
  add('root', options.root)
  add('dep', options.depth)
  add('dl', options.deadline)
  if setting('history', 'on') == 'off' then add('h', 'off') end
  redis.call('HSET', k, unpack(record))
  for i = pairs_, #ARGV, 2 do redis.call('HSET', k, 'c:' .. ARGV[i], ARGV[i + 1]) end
  redis.call('HINCRBY', B .. 'plans', options.plan, 1)
  redis.call('ZADD', B .. 'idx:bp:' .. options.blueprint, NOW, options.id)
  redis.call('ZADD', B .. 'idx:st:' .. st, NOW, options.id)
  if options.tags and options.tags ~= '' then
    for _, tag in ipairs(cjson.decode(options.tags)) do redis.call('ZADD', B .. 'idx:tag:' .. tag, NOW, options.id) end
  end
  if options.deadline ~= 0 then redis.call('ZADD', B .. 'timers', options.deadline, 'd|' .. options.id .. '|') end
  local r = load_run(options.id)
  if st == 'scheduled' then
    redis.call('ZADD', B .. 'timers', options.start_at, 'b|' .. options.id .. '|')
    event(r, 'B', '', 'scheduled')
  end
  return r
end

local function begin_run(r)
  event(r, 'B', '')
  for _, node in ipairs(plan_field(r, 'meta').starts) do fire(r, node) end
  maybe_finish(r)
end
