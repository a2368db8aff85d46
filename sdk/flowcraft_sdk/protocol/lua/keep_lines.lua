-- Keeps lines that running nodes have logged. A run keeps so many bytes of them: the oldest make room.
-- KEYS clock
-- ARGV count words...
--   count: of different bounds; words: for each of them 1 and how many bytes of lines a run keeps; and for each node: which bound
--     (from 1), how many words follow, then the words of LOGGED: label is the instance with the iterations of the loops around it;
--     first the number of the first of these lines among all of this claim, from 0; lines are age (ms), level and JSON of each
-- RETURNS for each node how many lines were kept; 0 when it is no longer the caller's or Redis' memory is full; or an error
--@include base
-- @fields LOGGED run instance_id label fencing_token first lines...
-- @fields logged_run status created node

local LOGGED

-- Removes the oldest lines, until the rest has `most` bytes. Returns the number of the first one left, and the bytes.
local function make_room(key, mark, first, following, bytes, most)
  local removed = {}
  while bytes > most and first < following do
    local line = redis.call('HGET', key, string.format('%d', first)) or ''
    local owner = 'a:' .. string.gsub(string.match(line, '^%d+|(.-)|') or '', '#[%d.]+$', '')
    local last = string.match(redis.call('HGET', key, owner) or '', '|(%d+)$')
    if tonumber(last) == first and owner ~= mark then removed[#removed + 1] = owner end
    removed[#removed + 1] = string.format('%d', first)
    bytes, first = bytes - #line, first + 1
    if #removed >= 1000 then redis.call('HDEL', key, unpack(removed)); removed = {} end -- 1,001 at most
  end
  if #removed > 0 then redis.call('HDEL', key, unpack(removed)) end -- 1,001 at most
  return first, bytes
end

-- `q` is `first|next|bytes` of the numbered lines, `a:<instance_id>` is `claims|lines of this claim|number of the last one`.
local function keep(most)
  local id, instance_id, claims = LOGGED.run, LOGGED.instance_id, claims_of(LOGGED.fencing_token)
  local logged_run = redis.call('HMGET', B .. 'run:' .. id, 'st', 'cr', 'n:' .. instance_id)
  if not logged_run.status or TERMINAL[logged_run.status] or not is_incarnation(logged_run.created, LOGGED.fencing_token) then return 0 end
  local attempt, claimed = string.match(logged_run.node or '', '^L|(%d+)|(%d+)|')
  if tonumber(claimed) ~= claims then return 0 end
  local key, mark = B .. 'logs:' .. id, 'a:' .. instance_id
  local kept = redis.call('HMGET', key, 'q', mark)
  local first, following, bytes = string.match(kept[1] or '1|1|0', '^(%d+)|(%d+)|(%d+)$')
  first, following, bytes = tonumber(first), tonumber(following), tonumber(bytes)
  local before, count = string.match(kept[2] or '', '^(%d+)|(%d+)|')
  count = tonumber(before) == claims and tonumber(count) or 0
  local written, added, age = {}, 0, elapsed(logged_run.created)
  local head = '|' .. LOGGED.label .. '|' .. attempt .. '|'
  for i = LOGGED.lines + 3 * math.max(0, count - tonumber(LOGGED.first)), #LOGGED, 3 do -- the others came before, as this call did
    local line = math.max(0, age - tonumber(LOGGED[i])) .. head .. LOGGED[i + 1] .. '|' .. LOGGED[i + 2]
    written[#written + 1], written[#written + 2] = string.format('%d', following), line
    following, bytes, count, added = following + 1, bytes + #line, count + 1, added + 1
  end
  if added == 0 then return 0 end
  written[#written + 1], written[#written + 2] = mark, claims .. '|' .. count .. '|' .. string.format('%d', following - 1)
  written[#written + 1], written[#written + 2] = 'q', first .. '|' .. following .. '|' .. bytes
  local reply = redis.pcall('HSET', key, unpack(written)) -- 1,010 at most, as a call has 501 lines at most
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'OOM', 1, true) then return 0 end -- the outcome is what matters then
    return reply
  end
  if bytes > most then
    first, bytes = make_room(key, mark, first, following, bytes, most)
    redis.call('HSET', key, 'q', first .. '|' .. following .. '|' .. bytes)
  end
  notify_run(B .. 'run:' .. id)
  return added
end

local at, replies = ARGV.words + 2 * ARGV.count, {}
while ARGV[at] do
  local most = tonumber(ARGV[ARGV.words + 2 * ARGV[at] - 1])
  LOGGED = part_of(ARGV, at + 2, at + 1 + ARGV[at + 1])
  at = at + 2 + ARGV[at + 1]
  local fine, reply = pcall(keep, most)
  replies[#replies + 1] = fine and reply or redis.error_reply(text_of(reply))
end
return replies
