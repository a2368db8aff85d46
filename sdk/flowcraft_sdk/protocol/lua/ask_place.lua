-- Asks for a place for a run that was started, in the first partition.
-- KEYS clock
-- ARGV run created blueprint key
--   created: when the run was, in ms; key: '' for none
-- RETURNS {granted} | {waits, limit, how many runs it allows, entries `RUN|CREATED` of the runs that are to be cancelled for it...}
--   | {full, limit, how many runs it allows}: it is refused, and does not wait
--@include base places

local entry = ARGV.run .. '|' .. ARGV.created
local group = ARGV.key == '' and ARGV.blueprint or ARGV.blueprint .. '|' .. ARGV.key
local state = redis.call('HGET', B .. 'places', entry)
if state and string.sub(state, 1, 1) == 'h' then return {'granted'} end

local full_run_rule = full_limit(group)
if not state then
  if full_run_rule and full_run_rule.overflow == 'reject' then return {'full', full_run_rule.name, full_run_rule.most} end
  redis.call('HSET', B .. 'places', entry, 'w|' .. string.format('%.0f', NOW) .. '|' .. group)
  redis.call('ZADD', B .. 'line:' .. group, created_of(entry), entry)
end
-- Behind those that wait already: without limits, as these may have been taken away, behind none.
local first_run_rule = limits_of_group(group)[1]
local name = full_run_rule and full_run_rule.name or first_run_rule and first_run_rule.name or '*'
block_group(group, name)
admit_to(name)
if redis.call('ZSCORE', B .. 'line:' .. group, entry) == false then return {'granted'} end
full_run_rule = full_limit(group) or {name, 0, 'queue'}
local reply = {'waits', full_run_rule.name, full_run_rule.most}
if full_run_rule.overflow == 'cancelPrevious' then
  local waiting = redis.call('ZRANGEBYSCORE', B .. 'line:' .. group, '-inf', created_of(entry))
  for _, before in ipairs(waiting) do
    if before == entry or #reply >= 200 then break end
    reply[#reply + 1] = before
  end
  local excess = redis.call('ZCARD', B .. 'running:' .. full_run_rule.name) + 1 - full_run_rule.most
  for _, before in ipairs(excess > 0 and redis.call('ZRANGE', B .. 'running:' .. full_run_rule.name, 0, math.min(excess, 200) - 1) or {}) do
    if created_of(before) <= created_of(entry) then reply[#reply + 1] = before end
  end
end
return reply
