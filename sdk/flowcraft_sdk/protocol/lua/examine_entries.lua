-- Looks a slice of a sorted set over for entries that stand for nothing, and removes them. Without `fix` it writes nothing.
-- KEYS clock
-- ARGV name first count fix
--   name: ready:QUEUE | limited:LIMIT | slots:LIMIT | leases | timers | dead | idx:... | ended:CLASS | memories; fix: 1 | 0
-- RETURNS {position of the next slice, -1 when there is none; then entry fixed (1|0) for each that stands for nothing}
--@include base

local name, first, count, fix = ARGV.name, tonumber(ARGV.first), tonumber(ARGV.count), ARGV.fix == '1'
local kind, which = string.match(name, '^(%a+):?(.*)$')

local function state_of(id, instance_id)
  local v = redis.pcall('HMGET', B .. 'run:' .. id, 'st', 'n:' .. instance_id)
  if not v[1] or TERMINAL[v[1]] or not v[2] then return nil end
  return string.sub(v[2], 1, 1), v[2]
end

local TIMERS = {
  T = function(id, instance_id) return state_of(id, instance_id) == 'T' end,
  W = function(id, instance_id) return state_of(id, instance_id) == 'W' end,
  p = function(id, instance_id) return state_of(id, instance_id) == 'R' or state_of(id, instance_id) == 'L' end,
  d = function(_, _, v) return not TERMINAL[v[1]] end,
  g = function(_, _, v) return not TERMINAL[v[1]] and v[2] end,
  c = function(_, _, v) return not TERMINAL[v[1]] and v[3] end,
  b = function(_, _, v) return v[1] == 'scheduled' end,
  l = function(name) return redis.call('HEXISTS', B .. 'limits', name) == 1 end,
}

local CHECKS = {
  ready = function(entry)
    local id, instance_id = string.match(entry, '^([^|]+)|(.+)$')
    local state, v
    if id then state, v = state_of(id, instance_id) end
    return state == 'R' and limit_in(string.match(v, '^R|%d+|%d+|%d+|%d+|(.*)$')) == which
  end,
  limited = function(entry)
    local id, instance_id = string.match(entry, '^([^|]+)|(.+)$')
    local state, v
    if id then state, v = state_of(id, instance_id) end
    return state == 'R' and string.match(v, '^R|%d+|%d+|%d+|%d+|[^@]*@(.*)$') == which
  end,
  slots = function(entry)
    local id, instance_id = string.match(entry, '^([^|]+)|(.+)$')
    local state = id and state_of(id, instance_id)
    return state == 'R' or state == 'L'
  end,
  leases = function(entry)
    local id, instance_id = string.match(entry, '^([^|]+)|(.+)$')
    return id and state_of(id, instance_id) == 'L'
  end,
  timers = function(entry)
    local what, id, instance_id = string.match(entry, '^(%a)|([^|]+)|(.*)$')
    if not what or not TIMERS[what] then return false end
    local v = redis.pcall('HMGET', B .. 'run:' .. id, 'st', 'stop', 'todo')
    return (v[1] or what == 'l') and TIMERS[what](id, instance_id, v)
  end,
  dead = function(entry)
    local id = string.match(entry, '^([^|]+)|.+$')
    return id and redis.call('EXISTS', B .. 'run:' .. id) == 1
  end,
  memories = function(id) return redis.pcall('HEXISTS', B .. 'memory:' .. id, 'at') == 1 end,
  ended = function(id)
    local st = redis.pcall('HGET', B .. 'run:' .. id, 'st')
    return type(st) == 'string' and TERMINAL[st] and (st == 'timed_out' and 'failed' or st) == which
  end,
  idx = function(id)
    local v = redis.pcall('HMGET', B .. 'run:' .. id, 'st', 'bp', 'tags')
    local by, value = string.match(which, '^(%a+):?(.*)$')
    if not v[1] then return false end
    if by == 'st' then return v[1] == value end
    if by == 'bp' then return v[2] == value end
    local fine, tags = pcall(cjson.decode, v[3] or '[]')
    for _, tag in ipairs(fine and type(tags) == 'table' and tags or {}) do
      if tag == value then return true end
    end
    return false
  end,
}

local entries, reply = redis.pcall('ZRANGE', B .. name, first, first + count - 1), {-1}
if entries.err then
  set_aside('key', name, entries)
  return reply
end
local removed = 0
for _, entry in ipairs(entries) do
  if not CHECKS[kind](entry) then
    reply[#reply + 1] = entry
    reply[#reply + 1] = fix and 1 or 0
    if fix then removed = removed + redis.call('ZREM', B .. name, entry) end
  end
end
if #entries == count then reply[1] = first + count - removed end
return reply
