-- Records steps of running nodes: what they have given, or that they have failed. The steps of one call have nothing to do with
-- each other: each is recorded as a whole or, if it is refused, not at all.
-- KEYS clock
-- ARGV count words...
--   count: 1, as nothing is shared by the steps of a call; words: 0, and for each step: 1, how many words follow, then the words of
--     STEP, up to `within_bytes` if there is no more to it
--   place: where the step stands in its node; state: d done | f failed; record: `bytes|JSON of the record`, behind a line break the
--     value if it is small; value: of a large one, '' for none; event: the node as the history has it, `|` and the rest of the event;
--   most, most_bytes: bounds of what is kept for a node; within: places of steps that were recorded within one that has failed,
--     and are removed with it; within_bytes: of these
-- RETURNS for each step an error, or {ok} | {already}: so it was recorded before | {stale}: the node is no longer the caller's |
--   {full, bytes}: no more is kept for the node
--@include base write_batch

-- @fields STEP run instance_id fencing_token place state record value event most most_bytes within_bytes within...
-- @fields sizes number bytes past past_bytes
-- @fields step_run status created history marked node sizes
local STEP

local function held_run(k)
  local step_run = redis.call('HMGET', k, 'st', 'cr', 'h', 'steps', 'n:' .. STEP.instance_id, 'sz:' .. STEP.instance_id)
  local claims = string.match(step_run.node or '', '^L|%d+|(%d+)|')
  local token = STEP.fencing_token
  if claims and tonumber(claims) == claims_of(token) and is_incarnation(step_run.created, token) and not TERMINAL[step_run.status] then
    return step_run
  end
end

local function size_of(record)
  return tonumber(string.match(record or '', '^(%d+)|') or 0)
end

-- Removes what was recorded within a step that has failed. Returns how many records that were.
local function remove_within(key, values)
  local removed = 0
  for from = STEP.within, #STEP, 1000 do
    local to = math.min(from + 999, #STEP)
    removed = removed + redis.call('HDEL', key, unpack(STEP, from, to)) -- 1,000 at most
    redis.call('HDEL', values, unpack(STEP, from, to)) -- 1,000 at most
  end
  return removed
end

local function record_step()
  local id, instance_id, k = STEP.run, STEP.instance_id, B .. 'run:' .. STEP.run
  local step_run = held_run(k)
  if not step_run then
    write_beside('HINCRBY', 'stats', 'stale', 1)
    return {'stale'}
  end
  local key, values = B .. 'steps:' .. id .. '|' .. instance_id, B .. 'values:' .. id .. '|' .. instance_id
  local failed = STEP.state == 'f'
  local place = failed and '!' .. STEP.place or STEP.place
  local before = redis.call('HGET', key, place)
  if before == STEP.record then return {'already'} end
  local sizes = {string.match(step_run.sizes or '0|0|0|0', '^(%d+)|(%d+)|(%d+)|(%d+)$')}
  local number, bytes = tonumber(sizes.number) + (before and 0 or 1), tonumber(sizes.bytes)
  if not failed then bytes = bytes - size_of(before) + size_of(STEP.record) end
  local full = number > tonumber(STEP.most) or bytes > tonumber(STEP.most_bytes)
  if full and not failed then return {'full', string.format('%.0f', bytes)} end
  if not full then
    if not failed then number = number - redis.call('HDEL', key, '!' .. place) end
    redis.call('HSET', key, place, STEP.record)
    if STEP.value ~= '' then redis.call('HSET', values, place, STEP.value) elseif before then redis.call('HDEL', values, place) end
  else -- the failure is in the history alone
    number, bytes = tonumber(sizes.number), tonumber(sizes.bytes)
  end
  if failed and STEP[STEP.within] then
    local removed = remove_within(key, values)
    if removed > 0 then number, bytes = number - removed, bytes - tonumber(STEP.within_bytes) end
  end
  local kept = string.format('%.0f|%.0f|', number, math.max(0, bytes)) .. sizes.past .. '|' .. sizes.past_bytes
  redis.call('HSET', k, 'sz:' .. instance_id, kept)
  if not step_run.marked then redis.call('HSET', k, 'steps', 1) end
  if step_run.history ~= 'off' then
    note(id, {(failed and 'P|' or 'p|') .. elapsed(step_run.created) .. '|' .. STEP.event})
  end
  notify_once(k)
  return {'ok'}
end

allow_when_full()
collect()
local replies, at = {}, 3 -- behind the number of shared words, of which there is none
while ARGV[at] do
  STEP = part_of(ARGV, at + 2, at + 1 + ARGV[at + 1])
  at = at + 2 + ARGV[at + 1]
  local fine, reply = pcall(record_step)
  replies[#replies + 1] = fine and reply or {err = text_of(reply)}
end
write_collected()
return replies
