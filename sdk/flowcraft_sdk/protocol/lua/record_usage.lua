-- Adds a model call to the sums of the node that made it, of its run, of the runs above that, of the day and of all time.
-- KEYS clock
-- ARGV run node created call model input cached output nano_usd unpriced ms from_cache
--   created: when the run was, in ms: another one may have its id by now; call: names this call, 8 characters; nano_usd: its price in 10^-9 USD;
--   unpriced: 1 if its price is not known, else 0; from_cache: 1 if the cache has answered it: then it is counted as that alone
-- RETURNS 1, or 0: the run has ended or is gone, or this call was counted before
--@include base usage

local REMEMBERED = 2048 -- characters of calls that were counted last, so that one which is sent twice counts once
local MOST_NAMES = 10000 -- sums of a day
local MOST_COUNTED = 100 -- blueprints, and models, that are counted for all time: which they are never changes, so that each count only grows
local KEPT = 40 * 86400 -- seconds

allow_when_full()
local k = B .. 'run:' .. ARGV.run
-- @fields run status created counted
local run = redis.pcall('HMGET', k, 'st', 'cr', 'uc')
if not run.status or TERMINAL[run.status] or tonumber(run.created) ~= tonumber(ARGV.created) then return 0 end
local counted = run.counted or ''
for at = 1, #counted, 8 do
  if string.sub(counted, at, at + 7) == ARGV.call then return 0 end
end
redis.call('HSET', k, 'uc', string.sub(counted .. ARGV.call, -REMEMBERED))

local amounts = {1 - ARGV.from_cache, ARGV.input, ARGV.cached, ARGV.output, ARGV.nano_usd, ARGV.unpriced, ARGV.ms, ARGV.from_cache}
local function added(sum)
  local numbers = numbers_of(sum)
  for i, amount in ipairs(amounts) do numbers[i] = string.format('%.0f', (numbers[i] or 0) + tonumber(amount)) end
  if numbers[8] == '0' then numbers[8] = nil end
  return table.concat(numbers, '|')
end

local day, all_time = usage_of_day(), B .. 'usage:total'
-- Whether a sum is in a hash; nil if a key of another type has its name: runs continue without it.
local function is_known(hash, name)
  local known = redis.pcall('HEXISTS', hash, name)
  if type(known) == 'table' then return set_aside('key', string.sub(hash, #B + 1), known) end
  return known == 1
end
local function add(hash, name)
  redis.call('HSET', hash, name, added(redis.call('HGET', hash, name)))
end
local function add_to_day(name)
  local known = is_known(day, name)
  if known == nil then return end
  if not known and redis.call('HLEN', day) >= MOST_NAMES then name = '~' end
  add(day, name)
end
-- Those of a kind that found no place are what all of them are more than the ones that did.
local function add_for_all_time(kind, name)
  local known = is_known(all_time, kind .. name)
  if known == nil then return end
  if not known and kind ~= '*' then
    if (tonumber(redis.call('HGET', all_time, '#' .. kind)) or 0) >= MOST_COUNTED then return end
    redis.call('HINCRBY', all_time, '#' .. kind, 1)
  end
  add(all_time, kind .. name)
end

local names, blueprint = {}, nil
climb(ARGV.run, ARGV.node, {'us', 'tags', 'bp'}, function(_, k, node, v)
  if not TERMINAL[v.st] and not v.apart then redis.call('HSET', k, 'us', added(v[1]), 'us:' .. node, added(v.node_sum)) end
  for _, tag in ipairs(tags_of(v[2])) do names['t|' .. tostring(tag)] = true end
  blueprint = blueprint or v[3]
end)
add_to_day('*')
add_to_day('b|' .. (blueprint or ''))
add_to_day('m|' .. ARGV.model)
for name in pairs(names) do add_to_day(name) end
add_for_all_time('*', '')
add_for_all_time('b|', blueprint or '')
add_for_all_time('m|', ARGV.model)
redis.call('EXPIRE', day, KEPT)
notify_run(k)
return 1
