-- Pops ready nodes from the queues and claims them.
-- KEYS clock
-- ARGV worker lease_ms queues (comma separated, served in this order) count
-- RETURNS a list of up to `count` claims (see include/claim.lua), empty when nothing is ready
--@include base write_batch joins claim

collect()
local claims, failure = take_many(ARGV[3], tonumber(ARGV[4]), ARGV[1], ARGV[2])
write_collected()
if failure and not claims[1] then return refused(failure) end
return claims
