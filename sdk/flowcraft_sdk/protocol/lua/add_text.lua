-- Adds text to the streams of running nodes, for clients that follow them. Nothing of it is in the records of runs.
-- KEYS clock
-- ARGV ttl_ms most_bytes streams...
--   ttl_ms: after which a stream goes that nothing is added to; most_bytes: that are kept of one, the latest;
--   streams: of each run instance_id fencing_token attempt first count, then part and text of each of its `count` entries, which
--     are numbered from `first`. Those that are there already are left alone.
-- RETURNS for each stream ok | lost (the node is no longer the caller's) | full (Redis takes nothing now, or the run has too many)
--@include base streams

local replies, at = {}, ARGV.streams
while ARGV[at] do
  local count = tonumber(ARGV[at + 5])
  replies[#replies + 1] = add_to_stream(
    {id = ARGV[at], instance_id = ARGV[at + 1], fencing_token = ARGV[at + 2], attempt = ARGV[at + 3], first = tonumber(ARGV[at + 4])},
    part_of(ARGV, at + 6, at + 5 + 2 * count), ARGV.ttl_ms, tonumber(ARGV.most_bytes))
  at = at + 6 + 2 * count
end
return replies
