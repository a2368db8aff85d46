-- Looks for a reply of a model in the cache.
-- KEYS clock
-- ARGV digest age_ms
--   digest: of the request; age_ms: how old it may be
-- RETURNS the reply, or false: there is none so young
--@include base

local kept = redis.call('GET', B .. 'reply:' .. ARGV.digest)
local bar = kept and string.find(kept, '|', 1, true)
local at = bar and tonumber(string.sub(kept, 1, bar - 1))
if not at or at + tonumber(ARGV.age_ms) <= NOW then return false end
return string.sub(kept, bar + 1)
