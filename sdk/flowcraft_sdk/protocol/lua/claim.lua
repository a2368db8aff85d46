-- Pops ready nodes from the queues and claims them.
-- KEYS clock
-- ARGV worker lease_ms queues count
--   queues: comma separated, served in this order
-- RETURNS a list of up to `count` claims (see include/claim.lua), empty when nothing is ready
--@include base limits write_batch plan joins claim

collect()
local claims, failure = take_many(ARGV.queues, tonumber(ARGV.count), ARGV.worker, ARGV.lease_ms)
write_collected()
if failure and not claims[1] then return refused(failure) end
return claims
