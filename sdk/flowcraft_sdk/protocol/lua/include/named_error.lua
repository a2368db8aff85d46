-- What every script ends with: it is called, and an error about a key that holds something of another type names that key.

local fine, reply = pcall(script)
if fine then return reply end

local problem = type(reply) == 'table' and reply.err or tostring(reply)
if not string.find(problem, 'WRONGTYPE', 1, true) or string.find(problem, 'BROKENRECORD', 1, true) then error(reply, 0) end

local base = string.sub(KEYS[1], 1, -6)
local MOST_WORDS = 200 -- of the arguments; ids and names of queues among them lead to keys

local function check(name, expected)
  local found = redis.call('TYPE', base .. name).ok
  if found == 'none' or found == expected then return end
  error('FOREIGNKEY ' .. base .. name .. ' is a ' .. found .. ' and no ' .. expected, 0)
end

for name, expected in pairs({clock = 'string', claiming = 'string', protocol = 'string', synced = 'string', settings = 'hash', stats = 'hash', plans = 'hash',
    blueprints = 'hash', publishers = 'hash', limits = 'hash', broken = 'hash', leases = 'zset', timers = 'zset', dead = 'zset', workers = 'zset',
    gone = 'zset', retired = 'zset', run_limits = 'hash', places = 'hash', waited_for = 'zset', admitted = 'zset', unplaced = 'zset', left = 'zset'}) do
  check(name, expected)
end
for _, kind in ipairs({'completed', 'failed', 'cancelled'}) do check('ended:' .. kind, 'zset') end
for _, status in ipairs({'scheduled', 'queued', 'running', 'waiting', 'cancelling', 'completed', 'failed', 'cancelled', 'timed_out'}) do
  check('idx:st:' .. status, 'zset')
end

for _, limit in ipairs(redis.call('HKEYS', base .. 'limits')) do
  check('limit:' .. limit, 'hash')
  check('limited:' .. limit, 'zset')
  check('slots:' .. limit, 'zset')
end

local families = {['worker:'] = 'hash', ['lost:'] = 'string', ['run:'] = 'hash', ['events:'] = 'list', ['logs:'] = 'hash', ['idx:bp:'] = 'zset',
                  ['idx:tag:'] = 'zset'}
local words, count = {default = true}, 1
for _, argument in ipairs(ARGV) do
  for word in string.gmatch(string.sub(argument, 1, 2000), '[^,]+') do
    if count < MOST_WORDS and not words[word] then words[word], count = true, count + 1 end
  end
end

local function check_queue(queue)
  check('ready:' .. queue, 'zset')
  check('ready:' .. queue .. '!', 'zset')
  check('q:' .. queue, 'list')
end

-- The queues of a plan, as far as they are among its first nodes.
local function check_plan(plan)
  check('plan:' .. plan, 'hash')
  local fields = redis.call('HSCAN', base .. 'plan:' .. plan, 0, 'COUNT', MOST_WORDS)[2]
  for i = 1, #fields, 2 do
    local node = string.sub(fields[i], 1, 2) == 'n:' and cjson.decode(fields[i + 1])
    if node and type(node[5]) == 'string' then check_queue(node[5]) end
  end
end

for word in pairs(words) do
  for family, expected in pairs(families) do check(family .. word, expected) end
  check_queue(word)
  check_plan(word)
  if redis.call('TYPE', base .. 'run:' .. word).ok == 'hash' then
    local v = redis.call('HMGET', base .. 'run:' .. word, 'plan', 'bp')
    if v[1] then check_plan(v[1]) end
    if v[2] then check('idx:bp:' .. v[2], 'zset') end
    for other in pairs(words) do check('batch:' .. word .. '|' .. other, 'hash') end
  end
end
error(reply, 0)
