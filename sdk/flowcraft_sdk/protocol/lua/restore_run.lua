-- Records an ended run of a backup: what `store_draft` has stored of it gets its place. Overwrites nothing.
-- KEYS clock
-- ARGV token run drafted events logs owners dead...
--   token: names this call and the drafts; drafted: how many fields of its record are stored; events, logs: how many of its events and
--     fields of its log, stored under the owners `|events` and `|logs`; owners: nodes whose batches are stored, one a line; dead: pairs
--     instance and ms: its dead letters
-- RETURNS {restored} | {there}: there is a run of this id | {active, status}: it has not ended | {no-plan, plan} | {no-draft}: what had been
--   stored is gone. The same token again answers as the first time.
--@include base run_record memory_usage draft

local id, token = ARGV.run, ARGV.token
local k, draft = B .. 'run:' .. id, B .. 'draft:' .. ARGV.token
local before = redis.pcall('HGET', k, 'tok')
if before == token then return {'restored'} end
if is_taken(id) then return {'there'} end
local events, logs = draft .. '||events', draft .. '||logs'
if not draft_is_whole(token, ARGV.drafted, ARGV.owners) or redis.call('HLEN', events) ~= tonumber(ARGV.events)
  or redis.call('HLEN', logs) ~= tonumber(ARGV.logs) then
  return {'no-draft'}
end
-- @fields restored_run status blueprint plan tags created batches parent
local restored_run = redis.call('HMGET', draft, 'st', 'bp', 'plan', 'tags', 'cr', 'batches', 'par')
if not TERMINAL[restored_run.status] then return {'active', restored_run.status or ''} end
if redis.call('EXISTS', B .. 'plan:' .. restored_run.plan) == 0 then return {'no-plan', restored_run.plan} end

redis.call('HSET', draft, 'tok', token)
for from = 1, tonumber(ARGV.events), 1000 do
  local numbers = {}
  for number = from, math.min(from + 999, tonumber(ARGV.events)) do numbers[#numbers + 1] = string.format('%d', number) end
  redis.call('RPUSH', B .. 'events:' .. id, unpack(redis.call('HMGET', events, unpack(numbers)))) -- 1,000 at most
end
redis.call('UNLINK', events)
if ARGV.logs ~= '0' then keep_draft(logs, B .. 'logs:' .. id) end
for owner in string.gmatch(ARGV.owners, '[^\n]+') do keep_draft(draft .. '|' .. owner, batch_key(id, owner)) end
keep_draft(draft, k)
write_beside('ZREM', 'gone', id)
write_beside('HINCRBY', 'plans', restored_run.plan, 1)
write_beside('ZADD', 'idx:bp:' .. restored_run.blueprint, restored_run.created, id)
write_beside('ZADD', 'idx:st:' .. restored_run.status, restored_run.created, id)
for _, tag in ipairs(cjson.decode(restored_run.tags or '[]')) do write_beside('ZADD', 'idx:tag:' .. tag, restored_run.created, id) end
for i = ARGV.dead, #ARGV, 2 do write_beside('ZADD', 'dead', ARGV[i + 1], id .. '|' .. ARGV[i]) end
note_size(id, restored_run.status, restored_run.batches, restored_run.parent)
return {'restored'}
