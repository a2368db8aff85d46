-- Looks over what was set aside because it could not be read: entries of sorted sets, records of runs, keys. With `fix`, what can be
-- read again, or is gone, is put back in its place and no longer set aside.
-- KEYS clock
-- ARGV fix
--   fix: 1 | 0
-- RETURNS place, entry, since (ms), problem, fixed (1|0) for each, one after the other. place: the sorted set, `run` for a
--   record, `key` for a key
--@include base limits run

local TYPES = {q = 'list', events = 'list', plans = 'hash', stats = 'hash'} -- of keys; all others are sorted sets

-- Whether the run that an entry stands for, and its node, can be read; also if they are gone.
local function is_readable(place, entry)
  if place == 'key' then
    local kind = redis.call('TYPE', B .. entry).ok
    return kind == 'none' or kind == (TYPES[string.match(entry, '^%a+')] or 'zset')
  end
  local id, instance_id = entry, ''
  if place == 'timers' then
    id, instance_id = string.match(entry, '^%a|([^|]+)|(.*)$')
  elseif place ~= 'run' and string.sub(place, 1, 6) ~= 'ended:' then
    id, instance_id = string.match(entry, '^([^|]+)|(.+)$')
  end
  if not id then return redis.call('ZSCORE', B .. place, entry) == false end
  forget_runs()
  return (pcall(function()
    local r = load_run(id)
    if r and instance_id ~= '' then node_state(r, instance_id) end
  end))
end

local key, reply = B .. 'broken', {}
local found = redis.pcall('HGETALL', key)
if found.err then return {'key', 'broken', NOW, found.err, 0} end
for i = 1, #found, 2 do
  local place, entry = string.match(found[i], '^(%S+) (.*)$')
  local since, problem = string.match(found[i + 1], '^(%d+)|(.*)$')
  local fixed = 0
  if ARGV.fix == '1' and (not place or is_readable(place, entry)) then
    -- An entry that stands for nothing any more is dropped by the next script that comes to it.
    if place and place ~= 'run' and place ~= 'key' and string.find(entry, '|') then redis.call('ZADD', B .. place, NOW, entry) end
    redis.call('HDEL', key, found[i])
    fixed = 1
  end
  for _, word in ipairs({place or 'key', entry or found[i], since or '0', problem or found[i + 1], fixed}) do reply[#reply + 1] = word end
end
return reply
