-- What running nodes stream. `stream:RUN|INSTANCE` is a stream of Redis with the text of the latest execution that has streamed, as
-- far as it is kept: entries `CLAIMS-NUMBER` (the number of the claim, that of the entry from 1) with `a` the attempt, `p` the name
-- of the part, `t` the text and `b` the bytes up to its end, with those of the parts' names. The channel of the same name is notified of
-- each addition. The set `streams:RUN` names the instances, so that removing a run finds their streams. All of these expire.

local MOST_STREAMS = 1000 -- of a run
local ENTRY_BYTES = 32 -- that an entry takes besides its text and the name of its part, about
local RUN_BYTES = 16 * 1024 * 1024 -- that the streams of a run share: of each the less is kept, the more there are

local function stream_key(id, instance_id)
  return B .. 'stream:' .. id .. '|' .. instance_id
end

-- Whether the caller holds the node, by the record of its run.
local function holds(stream)
  local v = redis.pcall('HMGET', B .. 'run:' .. stream.id, 'n:' .. stream.instance_id, 'cr')
  local s, claims = string.match(v[1] or '', '^(%a)|%d+|(%d+)')
  return s == 'L' and tonumber(claims) == claims_of(stream.fencing_token) and is_incarnation(v[2], stream.fencing_token)
end

-- Adds entries, given as part, text, ... Returns ok | lost | full, see add_text.lua.
local function add_to_stream(stream, entries, ttl, most_bytes)
  if not holds(stream) then return 'lost' end
  local key, names = stream_key(stream.id, stream.instance_id), B .. 'streams:' .. stream.id
  local claims, last, bytes = claims_of(stream.fencing_token), 0, 0
  local newest = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', 1)
  if newest.err then return 'full' end -- something else has the key's name
  if newest[1] and tonumber(string.match(newest[1][1], '^%d+')) == claims then
    last, bytes = tonumber(string.match(newest[1][1], '%d+$')), tonumber(newest[1][2][8])
  else -- of an earlier execution, or of a run that had the id before
    local many = redis.pcall('SCARD', names)
    if type(many) ~= 'number' or many >= MOST_STREAMS and redis.call('SISMEMBER', names, stream.instance_id) == 0 then return 'full' end
    if type(redis.pcall('SADD', names, stream.instance_id)) ~= 'number' then return 'full' end -- Redis' memory is full
    redis.call('UNLINK', key)
  end
  local added = false
  for i = 1, #entries, 2 do
    local number = stream.first + (i - 1) / 2
    if number > last then
      bytes = bytes + #entries[i] + #entries[i + 1] + ENTRY_BYTES
      local reply = redis.pcall('XADD', key, string.format('%d-%d', claims, number),
                                'a', stream.attempt, 'p', entries[i], 't', entries[i + 1], 'b', string.format('%d', bytes))
      if type(reply) == 'table' then return 'full' end
      added = true
    end
  end
  if not added then return 'ok' end
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)
  local share = RUN_BYTES / math.max(1, redis.call('SCARD', names))
  if bytes - tonumber(oldest[1][2][8]) > math.min(most_bytes, share) then
    redis.call('XTRIM', key, 'MAXLEN', math.ceil(redis.call('XLEN', key) / 2))
  end
  redis.call('PEXPIRE', key, ttl)
  redis.call('PEXPIRE', names, ttl)
  notify_run(key)
  return 'ok'
end

-- Removes the streams of a run.
local function remove_streams(id)
  local names = redis.pcall('SMEMBERS', B .. 'streams:' .. id)
  if names.err or not names[1] then return end
  for _, instance_id in ipairs(names) do redis.call('UNLINK', stream_key(id, instance_id)) end
  redis.call('UNLINK', B .. 'streams:' .. id)
end
