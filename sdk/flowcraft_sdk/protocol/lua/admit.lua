-- Moves nodes that wait for a limit to their queues, in a deployment of several partitions: as many as this one has been granted.
-- KEYS clock
-- ARGV name epoch share total
--   epoch, share, total: what share_limit returned for this partition, '' to grant nothing; an older epoch changes no share
-- RETURNS {nodes that wait, nodes that hold a slot, share, epoch, tokens that are left, tokens granted in all}
--@include base limits

local name, limit_key = ARGV.name, B .. 'limit:' .. ARGV.name
-- @fields granted share epoch tokens total
local granted = redis.call('HMGET', limit_key, 'share', 'epoch', 'tokens', 'total')
local share, epoch = tonumber(granted.share or 0), tonumber(granted.epoch or 0)
local tokens, total = tonumber(granted.tokens or 0), tonumber(granted.total or 0)
if ARGV.epoch ~= '' then
  if tonumber(ARGV.epoch) > epoch then share, epoch = tonumber(ARGV.share), tonumber(ARGV.epoch) end
  if tonumber(ARGV.total) > total then tokens, total = tokens + ARGV.total - total, tonumber(ARGV.total) end
  redis.call('HSET', limit_key, 'share', share, 'epoch', epoch, 'tokens', tokens, 'total', total)
  admit(name)
  tokens = tonumber(redis.call('HGET', limit_key, 'tokens') or 0)
end
return {redis.call('ZCARD', B .. 'limited:' .. name), redis.call('ZCARD', B .. 'slots:' .. name), share, epoch, tokens, total}
