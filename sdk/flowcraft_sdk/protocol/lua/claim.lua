-- Pops a ready node from the queues and claims it.
-- KEYS clock
-- ARGV worker lease_ms queues (comma separated, served in this order) count
-- RETURNS a list of up to `count` claims (see include/taking.lua), empty when nothing is ready
--@include base taking

local claims = {}
for i = 1, tonumber(ARGV[4]) do
  local claim = take_next(ARGV[3], ARGV[1], tonumber(ARGV[2]))
  if not claim then break end
  claims[i] = claim
end
return claims
