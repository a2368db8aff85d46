-- Removes an ended run and all runs below it, as retention does: the leaves first, and each leaves a tombstone. A bounded slice a call.
-- KEYS clock
-- ARGV run limit
--   limit: runs that this call removes at most
-- RETURNS {removed, how many runs} | {more, how many runs}: it is to be called again | {active, status}: it has not ended, or (status '')
--   a run below it has not; those that have are gone | {child, parent}: a node of another run has started it | {missing}
--@include base streams removal

local id, limit = ARGV.run, tonumber(ARGV.limit)
local k = B .. 'run:' .. id
-- @fields ended_head status parent parent_node
local ended_head = redis.pcall('HMGET', k, 'st', 'par', 'pn')
if ended_head['err'] then refuse_record(id, text_of(ended_head)) end
if not ended_head.status then return {'missing'} end
if ended_head.parent_node and redis.call('EXISTS', B .. 'run:' .. ended_head.parent) == 1 then return {'child', ended_head.parent} end
if STATUSES[ended_head.status] and not TERMINAL[ended_head.status] then return {'active', ended_head.status} end
local fine, outcome = pcall(remove_tree, id, limit)
if not fine then refuse_record(id, text_of(outcome)) end
if outcome == 'active' then return {'active', ''} end
return {outcome == 'limit' and 'more' or 'removed', removed_runs()}
