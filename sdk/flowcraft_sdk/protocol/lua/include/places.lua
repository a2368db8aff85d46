-- Places: how many runs there may be at once, of the deployment, of a blueprint and of a key. All of it lies in the first partition, wherever
-- the runs lie; workers pass on which run asks for a place and which gives one back. What is passed on twice changes nothing.
-- An entry is `RUN|CREATED`. `places` has them all: `STATE|SINCE|GROUP`, STATE being h (holds a place) or w (waits for one). A group,
-- `BLUEPRINT` or `BLUEPRINT|KEY`, is what counts against the same limits. Its runs wait in `line:GROUP` by their creation, so that only
-- its first one is looked at. `running:LIMIT` has the runs that hold a place, `blocked:LIMIT` the groups whose first run waits for
-- this limit, `waited_for` these limits, by when they are to be looked at. The limits of a group are `*`, `*|KEY`, BLUEPRINT and
-- BLUEPRINT|KEY; what they allow is in `run_limits`: `*` or BLUEPRINT -> `runs|runs of a key|overflow`. `admitted` has the entries
-- that were given a place when another one left, until they have begun.

local MOST_LOOKS = 200 -- at groups, in a call
local looks = 0

-- @fields run_rule name most overflow
-- The limits of a group that are laid down.
local function limits_of_group(group)
  local blueprint, key = string.match(group, '^([^|]+)|?(.*)$')
  local rules, found = redis.call('HMGET', B .. 'run_limits', '*', blueprint), {}
  for i, name in ipairs({'*', blueprint}) do
    local most, most_of_key, overflow = string.match(rules[i] or '', '^(%d*)|(%d*)|(%a+)$')
    if most and most ~= '' then found[#found + 1] = {name, tonumber(most), overflow} end
    if most and most_of_key ~= '' and key ~= '' then found[#found + 1] = {name .. '|' .. key, tonumber(most_of_key), overflow} end
  end
  return found
end

-- The names of all limits that a group counts against, be they laid down now or later.
local function limit_names(group)
  local blueprint, key = string.match(group, '^([^|]+)|?(.*)$')
  if key == '' then return {'*', blueprint} end
  return {'*', blueprint, '*|' .. key, group}
end

local function full_limit(group)
  for _, run_rule in ipairs(limits_of_group(group)) do
    if redis.call('ZCARD', B .. 'running:' .. run_rule.name) >= run_rule.most then return run_rule end
  end
end

local function created_of(entry)
  return tonumber(string.match(entry, '|(%d+)$'))
end

local function give_place(entry, group)
  redis.call('ZREM', B .. 'line:' .. group, entry)
  redis.call('HSET', B .. 'places', entry, 'h|' .. string.format('%.0f', NOW) .. '|' .. group)
  for _, name in ipairs(limit_names(group)) do redis.call('ZADD', B .. 'running:' .. name, created_of(entry), entry) end
  redis.call('ZADD', B .. 'admitted', NOW, entry)
end

local function block_group(group, name)
  local first = redis.call('ZRANGE', B .. 'line:' .. group, 0, 0, 'WITHSCORES')
  if not first[1] then return end
  redis.call('ZADD', B .. 'blocked:' .. name, first[2], group)
  redis.call('ZADD', B .. 'waited_for', 'NX', NOW + 1000, name)
end

-- Gives places to those that wait for a limit, the oldest first, as long as there are some. A group that waits for another limit
-- as well is looked at again when that one has room.
local function admit_all_to(name)
  local blocked = B .. 'blocked:' .. name
  while true do
    local first = redis.call('ZRANGE', blocked, 0, 0)
    if not first[1] then
      redis.call('ZREM', B .. 'waited_for', name)
      return
    end
    if looks >= MOST_LOOKS then
      redis.call('ZADD', B .. 'waited_for', NOW, name)
      return
    end
    looks = looks + 1
    local group = first[1]
    local line = redis.pcall('ZRANGE', B .. 'line:' .. group, 0, 0)
    -- A key of another type has its name: its runs wait, and ask again, and the other groups are not held up by it.
    if line['err'] then set_aside('key', 'line:' .. group, line) end
    local entry = line[1]
    local full_run_rule = entry and full_limit(group)
    if entry and full_run_rule and full_run_rule.name == name then
      redis.call('ZADD', B .. 'waited_for', NOW + 1000, name)
      return
    end
    redis.call('ZREM', blocked, group)
    if entry and full_run_rule then
      block_group(group, full_run_rule.name)
    elseif entry then
      give_place(entry, group)
      block_group(group, name) -- the next one of it, in its turn
    end
  end
end

-- The same; where something else has written under a key of this limit, the others continue without it.
local function admit_to(name)
  local fine, problem = pcall(admit_all_to, name)
  if fine then return end
  set_aside('key', 'blocked:' .. name, problem)
  redis.call('ZADD', B .. 'waited_for', NOW + 1000, name)
end
