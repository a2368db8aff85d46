-- Records a run and makes its first nodes ready, in one commit.
-- KEYS clock
-- ARGV token run blueprint version digest on_conflict start_at_ms run_timeout_ms tags memo parent max_depth forked_from expected priority key schedule budget trace on_parent_cancel context...
--   token: names this call; with INBOX@NOTIFICATION_TOKEN the run's end is published to that inbox of the caller's, with that notification token
--   version: a plan hash or ''; start_at ms or ''; run_timeout ms or ''; tags, memo JSON or ''; parent run id or ''; forked_from: the run that this one does again, or '';
--   expected: the plan that the caller thinks is current, or ''; priority: high | normal | low, '' for that of its parent, else normal
--   key: what runs are counted by, with a limit of concurrent runs per key; '' for none
--   budget: what its model calls may use, see include/usage.lua, or ''
--   schedule: '', or the schedule whose run this is, as JSON: its `id`; for a tick also `tick` (ms), `revision` (of the state that this was decided by),
--     `overlap`, `following` (the next ticks, as JSON), `due` (when to look at it next, ms), `queued` (the tick has waited), `missed` (the first one that was)
--   trace: the traceparent of the caller's span, or ''
--   on_parent_cancel: abandon, for a run that continues when its parent stops and has no deadline but its own, or ''. One that is started below a
--     run that stops is stopped at once, or abandoned
-- RETURNS {started, plan, overflow} (overflow: '', or queue, reject or cancelPrevious of a run that waits for a place, see places.lua) | {attached, status, plan} | {conflict, exists|different_input|different_blueprint|broken, blueprint} | {other-plan, the current one}
--   (broken: what lies under the id is no record of a run) | {no-blueprint} | {no-version} | {no-parent} | {too-deep}
--   of a tick also {tick, gone|changed} (the schedule, since it was read) | {tick, skipped|queued|waiting, a run that continues, its status}
--   The same token again answers as the first time: a call that redis-py re-sent is applied once.
--@include base limits run_record

local token, id, blueprint, version, digest, on_conflict = ARGV.token, ARGV.run, ARGV.blueprint, ARGV.version, ARGV.digest, ARGV.on_conflict
local start_at, timeout = tonumber(ARGV.start_at_ms) or 0, tonumber(ARGV.run_timeout_ms)
local note_start -- of a schedule's run alone
if ARGV.schedule ~= '' then
--@include schedule
  local scheduled = cjson.decode(ARGV.schedule)
  local refusal = refuse_scheduled(scheduled)
  if refusal then return refusal end
  note_start = function() note_scheduled(scheduled, id) end
end

-- @fields existing_run status plan token blueprint digest place
-- @fields parent_run status root depth deadline priority closing stop
local existing_run = redis.pcall('HMGET', B .. 'run:' .. id, 'st', 'plan', 'tok', 'bp', 'dg', 'pl')
if existing_run.status then
  if existing_run.token == token then
    if note_start then note_start() end
    return {'started', existing_run.plan, existing_run.place == 'w' and overflow_of(existing_run.blueprint) or ''}
  end
  if on_conflict == 'raise' then return {'conflict', 'exists', existing_run.blueprint} end
  if existing_run.blueprint ~= blueprint or (version ~= '' and version ~= existing_run.plan) then return {'conflict', 'different_blueprint', existing_run.blueprint} end
  if (existing_run.digest or '') ~= digest then
    local current = version == '' and redis.call('HGET', B .. 'blueprints', blueprint)
    -- The defaults that the caller filled in are those of an older plan.
    if current and ARGV.expected ~= '' and ARGV.expected ~= current then return {'other-plan', current} end
    return {'conflict', 'different_input', existing_run.blueprint}
  end
  return {'attached', existing_run.status, existing_run.plan}
end

local plan = version
if plan == '' then plan = redis.call('HGET', B .. 'blueprints', blueprint) end
if not plan then return {'no-blueprint'} end
if ARGV.expected ~= '' and ARGV.expected ~= plan then return {'other-plan', plan} end
local meta = redis.call('HGET', B .. 'plan:' .. plan, 'meta')
if not meta then return {'no-version'} end
meta = cjson.decode(meta)
if meta.id ~= blueprint then return {'no-version'} end

local options = {id = id, blueprint = blueprint, plan = plan, token = token, digest = digest, tags = ARGV.tags, memo = ARGV.memo,
                 fork = ARGV.forked_from, start_at = start_at, deadline = timeout and (NOW + timeout) or 0, depth = 0, priority = ARGV.priority, key = ARGV.key, budget = ARGV.budget,
                 trace = ARGV.trace}
local parent_stops
if ARGV.parent ~= '' then
  local parent_run = redis.pcall('HMGET', B .. 'run:' .. ARGV.parent, 'st', 'root', 'dep', 'dl', 'pr', 'cl', 'stop')
  if not parent_run.status then return {'no-parent'} end
  options.parent = ARGV.parent
  options.root = parent_run.root or ARGV.parent
  options.depth = tonumber(parent_run.depth or 0) + 1
  if options.priority == '' then options.priority = parent_run.priority or '' end
  if options.depth > tonumber(ARGV.max_depth) then return {'too-deep'} end
  if ARGV.on_parent_cancel == 'abandon' then options.abandoned = '-' end
  if options.abandoned or parent_run.closing and parent_run.closing ~= '-' then parent_run.deadline = false end -- it may have passed, and has done its work
  parent_stops = parent_run.stop and not TERMINAL[parent_run.status]
  if parent_run.deadline and (options.deadline == 0 or tonumber(parent_run.deadline) < options.deadline) then options.deadline = tonumber(parent_run.deadline) end
end

if is_taken(id) then
  if existing_run['err'] or redis.call('EXISTS', B .. 'run:' .. id) == 1 then return {'conflict', 'broken', ''} end
  redis.call('UNLINK', B .. 'events:' .. id, B .. 'logs:' .. id) -- of a run whose record was deleted by hand
end

local overflow = not options.parent and overflow_of(blueprint)
if overflow then options.place = 'w' end

-- The common start: at once, of a root run, whose plan the compiler has flagged. Without the machinery that the others need.
local function begin_fast()
  if options.parent or start_at > NOW or overflow or not meta.fast then return false end
  local fields, waiting, record = {}, {}, record_of(options, 'queued', ARGV.context, #meta.starts)
  for i, node in ipairs(meta.starts) do fields[i] = 'n:' .. node end
  for i, text in ipairs(redis.call('HMGET', B .. 'plan:' .. plan, unpack(fields))) do -- 100 at most
    local entry = text and cjson.decode(text)
    if not entry then return false end
    waiting[entry.queue] = waiting[entry.queue] or {}
    table.insert(waiting[entry.queue], meta.starts[i])
    record[#record + 1] = fields[i]
    record[#record + 1] = 'R|1|0|0|0|' .. entry.queue
  end
  local k = B .. 'run:' .. id
  for queue, instance_ids in pairs(waiting) do enqueue(id, queue, instance_ids, options.priority) end -- first: if that fails there is no run
  write_fields_of(k, record)
  add_to_indexes(options, 'queued')
  if keeps_history() then redis.call('RPUSH', B .. 'events:' .. id, 'B|0||') end
  admit_touched()
  return true
end
if options.priority == 'normal' then options.priority = '' end
note_priority(options.priority)
if begin_fast() then
  if note_start then note_start() end
  return {'started', plan, ''}
end

--@include run plan joins graph loops memory_usage notify closing run_end run_stop child_run
if options.parent then
  redis.call('HSET', B .. 'run:' .. options.parent, 'k:' .. id, '')
  redis.call('HSETNX', B .. 'run:' .. options.parent, 'kids', 0) -- there is something below it
end
local r = create_run(options, ARGV.context)
if r.st == 'queued' and overflow then
  -- The client asks for its place if it may be refused; if it does not come to that, a worker does.
  pass_on_place('unplaced', r.id, r.cr, overflow == 'reject' and not note_start and 5000 or 0)
elseif r.st == 'queued' then
  begin_run(r)
end
if parent_stops then -- it was asked for before its parent stopped, and is stopped along with it
  local above = load_related(options.parent)
  if above then stop_child(above, r, tonumber(setting('cancelGrace', '30000')), stop_run) end
end
commit()
if note_start then note_start() end
return {'started', plan, r.st == 'queued' and overflow or ''}
