-- Looks whether a node may make another model call: which budgets hold for it, its own, those of its run, and of the runs above.
-- KEYS clock
-- ARGV run node budget tags...
--   budget: that of the node as its worker knows it, see include/usage.lua; tags: those that have a budget for each day
-- RETURNS {day, flags, tags, {kind, name, budget, sum}...}: flags has `u` if a budget counts USD; tags: which of them the runs have, one a line;
--   then each budget that is used up: kind run | blueprint | node, name of the run or RUN/NODE
--@include base usage

local reply, has_tag, counts_usd = {string.format('%d', math.floor(NOW / 86400000))}, {}, false
local budgeted = {}
for i = ARGV.tags, #ARGV do budgeted[ARGV[i]] = true end

local function check(kind, name, budget, sum)
  if not budget then return end
  local most, used = numbers_of(budget), numbers_of(sum)
  counts_usd = counts_usd or most[1] ~= nil
  if most[1] and (used[5] or 0) >= most[1] or most[2] and (used[2] or 0) + (used[4] or 0) >= most[2] then
    reply[#reply + 1] = {kind, name, budget, sum or ''}
  end
end

local first = true
climb(ARGV.run, ARGV.node, {'us', 'bg', 'plan', 'tags'}, function(id, _, node, v)
  if not v.apart then
    local plan = redis.pcall('HMGET', B .. 'plan:' .. (v[3] or ''), 'budget', 'budget:' .. node)
    check('node', id .. '/' .. node, first and ARGV.budget ~= '' and ARGV.budget or plan[2], v.node_sum)
    check('run', id, v[2], v[1])
    check('blueprint', id, plan[1], v[1])
  end
  if next(budgeted) then
    for _, tag in ipairs(tags_of(v[4])) do
      if budgeted[tag] then has_tag[tag] = true end
    end
  end
  first = false
end)
local found = {}
for tag in pairs(has_tag) do found[#found + 1] = tag end
table.insert(reply, 2, counts_usd and 'u' or '')
table.insert(reply, 3, table.concat(found, '\n'))
return reply
