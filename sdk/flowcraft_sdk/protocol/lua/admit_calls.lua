-- Admits model calls of a process to a limit that holds over all processes: so many in a time, so many tokens, so many at once.
-- All of it lies in one partition. A call that waits has a turn, so that runs come one after the other, however many calls each has.
-- The node of a call that waits for long may be parked: see parked_calls.lua.
-- KEYS clock
-- ARGV name process lease_ms request_ms token_ms concurrent block_ms backs_off admitted_at new over running parks woken asks learned
--   request_ms, token_ms: between two requests or tokens, concurrent: calls at once; '' for no such limit; request_ms '-': what was last given
--   block_ms: for how long the provider wants no calls, from now on, '' for nothing new; backs_off: 1 if it has refused a call without
--     saying for how long; admitted_at: when the call was admitted that it has refused, 0 for none
--   new: JSON, lists of call, run, tokens and RUN|INSTANCE of its node ('' for one that is never parked), of those that wait from now on
--   over: JSON, lists of call, tokens that it was admitted with, tokens that it used, 1 if it was answered, ms that it took
--   running: JSON, calls that were admitted and have not ended
--   parks: JSON, lists of call, node and tokens, of calls that wait no longer as their nodes are parked
--   woken: JSON, lists of node and 1 if it was made ready, 0 if it is not parked any more and will not come
--   asks: JSON, calls that wait and want to know for how long
--   learned: JSON, the limits in an answer of the provider, for where none is given: {requests = {ms between two, how many are
--     left, how many there are in all}, tokens = likewise}
-- RETURNS {now, for how long there is no call (ms), ms until the next look, nodes that are parked, ms since another process has looked,
--   JSON of nodes that are to be made ready, JSON of the ms that calls of `asks` are going to wait, calls of the process that are admitted...}
--@include base parked_calls

local MOST_RUNS, SAVED_MS, FIRST_PAUSE, LONGEST_PAUSE, LOOK, AT_ONCE = 2000, 500, 1000, 60000, 50, 200
local FIRST_TOOK = 1000 -- ms that a call is taken to last, before one has ended

allow_when_full()
local waiting, admitted, key, parked = B .. 'calls:' .. ARGV.name, B .. 'underway:' .. ARGV.name, B .. 'pace:' .. ARGV.name, B .. 'parked:' .. ARGV.name
-- @fields pace turn requests tokens until ramp pauses blocked took rule looked learned
local pace = redis.call('HMGET', key, 'turn', 'requests', 'tokens', 'until', 'ramp', 'pauses', 'blocked', 'took', 'rule', 'looked', 'learned')
local rule = ARGV.request_ms .. '|' .. ARGV.token_ms .. '|' .. ARGV.concurrent
if ARGV.request_ms == '-' then rule = pace.rule or '||' end
local request_ms, token_ms, concurrent = string.match(rule, '^([^|]*)|([^|]*)|([^|]*)$')
request_ms, token_ms, concurrent = tonumber(request_ms), tonumber(token_ms), tonumber(concurrent)
-- The limits in its answers: all of one may be saved up, as the provider does that, too.
local answer, learned, saved_requests, saved_tokens = cjson.decode(ARGV.learned), {}, SAVED_MS, SAVED_MS
for kind, ms, most in string.gmatch(pace.learned or '', '(%a+)|([%d.]+)|(%d+)') do learned[kind] = {tonumber(ms), 0, tonumber(most)} end
for kind, limit in pairs(answer) do learned[kind] = limit end
if not request_ms and learned.requests then request_ms, saved_requests = learned.requests[1], learned.requests[1] * learned.requests[3] end
if not token_ms and learned.tokens then token_ms, saved_tokens = learned.tokens[1], learned.tokens[1] * learned.tokens[3] end
local lease, admitted_at = tonumber(ARGV.lease_ms), tonumber(ARGV.admitted_at)
local turn, requests, tokens, blocked_until, ramp = tonumber(pace.turn or 0), tonumber(pace.requests or 0), tonumber(pace.tokens or 0), tonumber(pace.until or 0), tonumber(pace.ramp or 0)
local pauses, blocked, took = tonumber(pace.pauses or 0), tonumber(pace.blocked or 0), tonumber(pace.took or FIRST_TOOK)
local looked_by, looked_at = string.match(pace.looked or '', '^([^|]*)|(%d+)$')

local function member_of(call) return ARGV.process .. '|' .. call end

for _, ended in ipairs(cjson.decode(ARGV.over)) do
  local call, expected, used, answered, ms = unpack(ended) -- 5 at most
  if redis.call('ZREM', admitted, member_of(call)) == 1 then
    if token_ms then tokens = tokens + (used - expected) * token_ms end
    if answered == 1 then
      pauses, took = 0, took + (ms - took) / 8
      if ramp > 0 then ramp = ramp >= 1024 and 0 or ramp * 2 end
    end
  end
  redis.call('ZREM', waiting, member_of(call))
  redis.call('HDEL', key, 'c:' .. member_of(call))
end
if ARGV.block_ms ~= '' then
  blocked_until, blocked = math.max(blocked_until, NOW + tonumber(ARGV.block_ms)), NOW
  if admitted_at > 0 then ramp = 1 end
elseif ARGV.backs_off == '1' and admitted_at >= blocked then -- calls that were admitted before say nothing new
  pauses = pauses + 1
  blocked_until, blocked, ramp = math.max(blocked_until, NOW + math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ (pauses - 1))), NOW, 1
end

for _, call in ipairs(cjson.decode(ARGV.running)) do
  if redis.call('ZSCORE', admitted, member_of(call)) then redis.call('ZADD', admitted, NOW + lease, member_of(call)) end
end
-- What was taken for a call that does not come.
local function give_back(expected)
  if request_ms then requests = requests - request_ms end
  if token_ms then tokens = tokens - expected * token_ms end
end

parked_calls.expire(key, parked, admitted, give_back) -- and places of processes that are gone
redis.call('HSET', key, 'p:' .. ARGV.process, NOW)
for _, each in ipairs(cjson.decode(ARGV.woken)) do
  local was_held, expected = parked_calls.confirm(key, parked, admitted, each[1], each[2] == 1)
  if was_held then give_back(expected) end
end
for _, new in ipairs(cjson.decode(ARGV.new)) do
  local call, run, expected, node = unpack(new) -- 4 at most
  local member = member_of(call)
  if redis.call('HEXISTS', key, 'c:' .. member) == 0 then -- else this call was sent before
    local at, before
    if node ~= '' then at, before = parked_calls.come(key, parked, admitted, node) end
    if at == 'admitted' then
      if token_ms then tokens = tokens + (expected - before) * token_ms end
      redis.call('ZADD', admitted, NOW + lease, member)
      redis.call('HSET', key, 'c:' .. member, expected)
    else
      if not at then
        at = math.max(turn, tonumber(redis.call('HGET', key, 'r:' .. run) or 0)) + 1
        redis.call('HSET', key, 'r:' .. run, string.format('%.0f', at))
        at = at + redis.call('HINCRBY', key, 'seq', 1) % 1e6 / 1e6 -- within a round in the order in which they came
      end
      redis.call('HSET', key, 'c:' .. member, expected)
      redis.call('ZADD', waiting, at, member)
    end
  end
end
for _, each in ipairs(cjson.decode(ARGV.parks)) do
  if redis.call('ZREM', admitted, member_of(each[1])) == 1 then give_back(each[3]) end -- admitted meanwhile
  parked_calls.put_aside(key, parked, waiting, member_of(each[1]), each[2], each[3], turn)
end

local noted = {}
for kind, limit in pairs(learned) do noted[#noted + 1] = string.format('%s|%.6f|%.0f', kind, limit[1], limit[3]) end
local held = redis.call('ZCARD', admitted)
-- No more than the answer has left.
if answer.requests and saved_requests > SAVED_MS then requests = math.max(requests, NOW - answer.requests[2] * request_ms) end
if answer.tokens and saved_tokens > SAVED_MS then tokens = math.max(tokens, NOW - answer.tokens[2] * token_ms) end
local room = math.min(concurrent or math.huge, ramp > 0 and ramp or math.huge)
local again = LOOK
if request_ms then requests = math.max(requests, NOW - math.max(saved_requests, request_ms)) end
if token_ms then tokens = math.max(tokens, NOW - math.max(saved_tokens, token_ms)) end
local wakes = {}
for count = 1, AT_ONCE + 1 do
  if NOW < blocked_until or held >= room then break end
  local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
  local node, its_turn = parked_calls.first(parked)
  if node and first[1] and tonumber(first[2]) < its_turn then node = nil end
  if not node and not first[1] then break end
  if count > AT_ONCE then -- the others at once, by a further call
    again = 1
    break
  end
  local process = not node and string.match(first[1], '^([^|]*)|')
  local seen = node and NOW or redis.call('HGET', key, 'p:' .. process)
  local expected = tonumber(redis.call('HGET', key, 'c:' .. (node and '~|' .. node or first[1])) or 0)
  if not seen or NOW - tonumber(seen) > lease then -- of a process that is gone
    redis.call('ZREM', waiting, first[1])
    redis.call('HDEL', key, 'c:' .. first[1])
  else
    if request_ms and NOW - requests < request_ms then
      again = math.max(1, math.ceil(requests + request_ms - NOW))
      break
    end
    if token_ms and NOW - tokens < math.min(expected * token_ms, saved_tokens) then
      again = math.max(LOOK, math.min(1000, math.ceil(tokens + math.min(expected * token_ms, saved_tokens) - NOW)))
      break
    end
    if request_ms then requests = requests + request_ms end
    if token_ms then tokens = tokens + expected * token_ms end
    held = held + 1
    if node then
      turn = math.max(turn, math.floor(its_turn))
      parked_calls.call(key, parked, admitted, node, its_turn)
      wakes[#wakes + 1] = node
    else
      turn = math.max(turn, math.floor(tonumber(first[2])))
      redis.call('ZREM', waiting, first[1])
      redis.call('ZADD', admitted, NOW + lease, first[1])
    end
  end
end

-- For how long a call is going to wait, as far as can be known.
local function wait_of(member)
  local at, ms = redis.call('ZSCORE', waiting, member), math.max(0, blocked_until - NOW)
  if not at then return 0 end
  local before = redis.call('ZCOUNT', waiting, '-inf', '(' .. at) + redis.call('ZCOUNT', parked, '-inf', '(' .. at)
  local expected = tonumber(redis.call('HGET', key, 'c:' .. member) or 0)
  if request_ms then ms = math.max(ms, requests + request_ms * (before + 1) - NOW) end
  if token_ms then ms = math.max(ms, tokens + token_ms * expected * before + math.min(expected * token_ms, saved_tokens) - NOW) end
  if held + before >= room then ms = math.max(ms, took * (math.floor((held + before - room) / room) + 1)) end
  return math.ceil(ms)
end
local waits = {}
for i, call in ipairs(cjson.decode(ARGV.asks)) do waits[i] = wait_of(member_of(call)) end

if NOW < blocked_until then again = math.max(LOOK, math.min(1000, blocked_until - NOW)) end
redis.call('HSET', key, 'turn', string.format('%.0f', turn), 'requests', string.format('%.3f', requests), 'tokens', string.format('%.3f', tokens),
           'until', string.format('%.0f', blocked_until), 'ramp', ramp, 'pauses', pauses, 'blocked', string.format('%.0f', blocked),
           'took', string.format('%.1f', took), 'rule', rule, 'looked', ARGV.process .. '|' .. string.format('%.0f', NOW),
           'learned', table.concat(noted, ','))
-- Runs and processes whose turns are over. Those that wait have fields of their own.
if redis.call('HLEN', key) > MOST_RUNS + 4 * (redis.call('ZCARD', waiting) + redis.call('ZCARD', parked)) then
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local kind, value = string.sub(fields[i], 1, 2), tonumber(fields[i + 1])
    if kind == 'r:' and value <= turn or kind == 'p:' and NOW - value > lease or parked_calls.is_old(fields[i], fields[i + 1]) then
      redis.call('HDEL', key, fields[i])
    end
  end
end

local mine, unconfirmed, prefix = {}, 0, ARGV.process .. '|'
for _, member in ipairs(redis.call('ZRANGE', admitted, 0, -1)) do
  if string.sub(member, 1, #prefix) == prefix then mine[#mine + 1] = string.sub(member, #prefix + 1) end
  if string.sub(member, 1, 2) == '~|' then unconfirmed = unconfirmed + 1 end
end
local left = parked_calls.note(ARGV.name, parked, unconfirmed)
for _, name in ipairs({waiting, admitted, key, parked, B .. 'parking'}) do
  redis.call('PEXPIRE', name, math.max(86400000, blocked_until - NOW))
end
local since = looked_by and looked_by ~= ARGV.process and NOW - looked_at or -1
local reply = {string.format('%.0f', NOW), string.format('%.0f', math.max(0, blocked_until - NOW)), again, left, since,
               cjson.encode(wakes), cjson.encode(waits)}
for _, call in ipairs(mine) do reply[#reply + 1] = call end
return reply
