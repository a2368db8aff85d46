-- Shares a limit out over the partitions of a deployment. What is shared lies in one partition, and is never more than the limit:
-- slots that one partition has are given to another only once it has been seen without them, so what a lost call takes along, or
-- one that comes late, is missing for a while, and nothing is granted twice.
-- KEYS clock
-- ARGV name reports...
--   reports: of each partition its number, and what `admit` has returned for it
-- RETURNS of each partition its number, epoch, share, tokens granted in all
--@include base limits

local FIELDS = 7 -- of a report
local limit_key, rule, partitions, reply = B .. 'limit:' .. ARGV.name, rule_of(ARGV.name), {}, {}
local count_ = (#ARGV - ARGV.reports + 1) / FIELDS
for i = 0, count_ - 1 do
  local at = ARGV.reports + FIELDS * ((i + math.floor(NOW / 200)) % count_) -- another one is the first in turn
  local p = {number = ARGV[at], waiting = tonumber(ARGV[at + 1]), held = tonumber(ARGV[at + 2])}
  local tokens, got = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  -- `shared:<n>` is what the partition may have at most, epoch and share as they were returned last, and tokens granted in all.
  local most, epoch, share, total = string.match(redis.call('HGET', limit_key, 'shared:' .. p.number) or '0|0|0|0', '^(%d+)|(%d+)|(%d+)|(%d+)$')
  p.most, p.epoch, p.share, p.total = tonumber(most), tonumber(epoch), tonumber(share), tonumber(total)
  if p.epoch < tonumber(ARGV[at + 4]) then -- this partition has lost what it had noted
    p.most, p.epoch, p.share = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 3])
  end
  if p.epoch == tonumber(ARGV[at + 4]) then p.most = math.max(p.share, p.held) end
  p.total = math.max(p.total, got)
  p.wants = math.max(0, p.waiting - tokens - (p.total - got))
  partitions[#partitions + 1] = p
end

-- Gives each as much as it asks for, and where there is not enough, each the same.
local function share_out(amount, field, asked)
  for _, p in ipairs(partitions) do p[field] = 0 end
  while amount > 0 do
    local open = {}
    for _, p in ipairs(partitions) do if p[field] < asked(p) then open[#open + 1] = p end end
    if not open[1] then break end
    local each = math.max(1, math.floor(amount / #open))
    for _, p in ipairs(open) do
      local more = math.min(each, asked(p) - p[field], amount)
      p[field], amount = p[field] + more, amount - more
    end
  end
  return amount
end

if rule and rule.concurrent then
  local left = share_out(rule.concurrent, 'target', function(p) return p.waiting + p.held end)
  local free, reported = rule.concurrent, {}
  for _, p in ipairs(partitions) do
    reported['shared:' .. p.number] = true
    p.target = p.target + math.floor(left / count_) -- in stock, for nodes to come
    free = free - p.most
  end
  local noted = redis.call('HGETALL', limit_key)
  for i = 1, #noted, 2 do -- a partition that cannot be asked keeps what it has
    if not reported[noted[i]] then free = free - tonumber(string.match(noted[i], '^shared:') and string.match(noted[i + 1], '^%d+') or 0) end
  end
  for _, p in ipairs(partitions) do
    local share = p.target
    if share > p.share then
      share = math.max(p.share, math.min(share, p.most + math.max(0, free)))
      free = free - math.max(0, share - p.most)
      p.most = math.max(p.most, share)
    end
    if share ~= p.share then p.share, p.epoch = share, p.epoch + 1 end
  end
end
if rule and rule.interval then
  local tokens, at = tokens_of(rule, tonumber(redis.call('HGET', limit_key, 'at') or 0))
  local left = share_out(tokens, 'more', function(p) return p.wants end)
  for _, p in ipairs(partitions) do p.total = p.total + p.more end
  redis.call('HSET', limit_key, 'at', string.format('%.3f', at + (tokens - left) * rule.interval))
end
for _, p in ipairs(partitions) do
  redis.call('HSET', limit_key, 'shared:' .. p.number, string.format('%d|%d|%d|%d', p.most, p.epoch, p.share, p.total))
  for _, part in ipairs({p.number, p.epoch, p.share, p.total}) do reply[#reply + 1] = part end
end
return reply
