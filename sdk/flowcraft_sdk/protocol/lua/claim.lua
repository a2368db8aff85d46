-- Pops a ready node from the queues and claims it.
-- KEYS clock
-- ARGV worker lease_ms queues (comma separated, served in this order) count
-- RETURNS a list of up to `count` claims (see include/taking.lua), empty when nothing is ready
--@include base collecting taking

collect()
local claims, failure = {}, nil
for i = 1, ARGV[4] do
  local fine, claim = pcall(take_next, ARGV[3], ARGV[1], ARGV[2])
  if not fine then failure = claim end
  if not fine or not claim then break end
  claims[i] = claim
end
write_collected()
if failure and not claims[1] then error(failure) end
return claims
