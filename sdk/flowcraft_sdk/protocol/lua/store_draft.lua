-- Stores part of what a run is to begin with that does another one again, beside the runs: `rerun` makes the run of it. What no
-- such call takes goes after an hour.
-- KEYS clock
-- ARGV token owner fields...
--   token: that of the `rerun` to come; owner: '' for the run's record, or the node whose batch it is; fields: pairs field value
-- RETURNS {ok, how many fields are stored by now}
--@include base

local AN_HOUR = 3600000
local key = B .. 'draft:' .. ARGV.token .. (ARGV.owner ~= '' and '|' .. ARGV.owner or '')
write_fields_of(key, part_of(ARGV, ARGV.fields))
redis.call('PEXPIRE', key, AN_HOUR)
return {'ok', redis.call('HLEN', key)}
