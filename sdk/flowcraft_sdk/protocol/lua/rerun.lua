-- Records a run that does an ended one again, with what is taken over of that one, and sets going what is not.
-- KEYS clock
-- ARGV token run blueprint plan digest on_conflict run_timeout_ms tags memo forked_from priority key budget drafted owners work fields...
--   token: names this call, as in start.lua; digest: of what was asked for; run_timeout_ms: '' for none; tags, memo: JSON;
--   forked_from: the run that is done again; priority: '' for normal; key, budget: as in start.lua; drafted: how many fields of its record `store_draft` has stored under the token; owners:
--   nodes whose batches it has stored, one a line; work: JSON list of work items, see include/take_over.lua; fields: pairs field value
-- RETURNS {started, plan} | {attached, status, plan} | {conflict, exists|different_input|broken} | {no-version}
--   | {no-draft}: what had been stored is gone; nothing was done
--   The same token again answers as the first time.
--@include base limits run_record run plan joins graph loops memory_usage notify closing run_end child_run batch take_over draft

local id = ARGV.run
-- @fields existing_run status plan token digest
local existing_run = redis.pcall('HMGET', B .. 'run:' .. id, 'st', 'plan', 'tok', 'dg')
if existing_run.status then
  if existing_run.token == ARGV.token then return {'started', existing_run.plan} end
  if ARGV.on_conflict == 'raise' then return {'conflict', 'exists'} end
  if (existing_run.digest or '') ~= ARGV.digest then return {'conflict', 'different_input'} end
  return {'attached', existing_run.status, existing_run.plan}
end
local meta = redis.call('HGET', B .. 'plan:' .. ARGV.plan, 'meta')
if not meta or cjson.decode(meta).id ~= ARGV.blueprint then return {'no-version'} end
if is_taken(id) then
  if existing_run['err'] or redis.call('EXISTS', B .. 'run:' .. id) == 1 then return {'conflict', 'broken'} end
  redis.call('UNLINK', B .. 'events:' .. id, B .. 'logs:' .. id) -- of a run whose record was deleted by hand
end
if not draft_is_whole(ARGV.token, ARGV.drafted, ARGV.owners) then return {'no-draft'} end

local timeout = tonumber(ARGV.run_timeout_ms)
local options = {id = id, blueprint = ARGV.blueprint, plan = ARGV.plan, token = ARGV.token, digest = ARGV.digest, tags = ARGV.tags,
                 memo = ARGV.memo, fork = ARGV.forked_from, start_at = 0, deadline = timeout and (NOW + timeout) or 0, depth = 0,
                 priority = ARGV.priority, key = ARGV.key, budget = ARGV.budget, place = overflow_of(ARGV.blueprint) and 'w'}
note_priority(options.priority)
local r = begin_with_draft(options, ARGV.token, ARGV.drafted, ARGV.owners, ARGV.work, part_of(ARGV, ARGV.fields))
commit()
return {'started', r.plan}
