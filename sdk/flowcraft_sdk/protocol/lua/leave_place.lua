-- Takes runs that have ended out of what counts runs, in the first partition, and gives their places to others.
-- KEYS clock
-- ARGV entries...
--   entries: `RUN|CREATED`
-- RETURNS how many of them held a place or waited for one
--@include base places

local left, freed, order = 0, {}, {}
for i = ARGV.entries, #ARGV do
  local entry = ARGV[i]
  local state, group = string.match(redis.call('HGET', B .. 'places', entry) or '', '^(%a)|%d+|(.*)$')
  if state then
    left = left + 1
    redis.call('ZREM', B .. 'admitted', entry)
    redis.call('ZREM', B .. 'line:' .. group, entry)
    for _, name in ipairs(limit_names(group)) do
      redis.call('ZREM', B .. 'running:' .. name, entry)
      if not freed[name] then
        freed[name] = true
        order[#order + 1] = name
      end
    end
    redis.call('HDEL', B .. 'places', entry) -- last: a call that Redis refuses before is made again
  end
end
for _, name in ipairs(order) do admit_to(name) end
return left
