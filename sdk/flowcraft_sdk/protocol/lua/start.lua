-- Records a run and makes its first nodes ready, in one commit.
-- KEYS clock
-- ARGV token run blueprint version digest on_conflict start_at_ms run_timeout_ms tags memo parent max_depth forked_from expected context...
--   token: names this call; with INBOX@NOTIFICATION_TOKEN the run's end is published to that inbox of the caller's, with that notification token
--   version: a plan hash or ''; start_at ms or ''; run_timeout ms or ''; tags, memo JSON or ''; parent run id or ''; forked_from: the run that this one does again, or '';
--   expected: the plan that the caller thinks is current, or ''
-- RETURNS {started, plan} | {attached, status, plan} | {conflict, exists|different_input|different_blueprint|broken, blueprint} | {other-plan, the current one}
--   (broken: what lies under the id is no record of a run) | {no-blueprint} | {no-version} | {no-parent} | {too-deep}
--   The same token again answers as the first time: a call that redis-py re-sent is applied once.
--@include base run_record

local token, id, blueprint, version, digest, on_conflict = ARGV.token, ARGV.run, ARGV.blueprint, ARGV.version, ARGV.digest, ARGV.on_conflict
local start_at, timeout = tonumber(ARGV.start_at_ms) or 0, tonumber(ARGV.run_timeout_ms)

-- @fields existing_run status plan token blueprint digest
-- @fields parent_run status root depth deadline
local existing_run = redis.pcall('HMGET', B .. 'run:' .. id, 'st', 'plan', 'tok', 'bp', 'dg')
if existing_run.status then
  if existing_run.token == token then return {'started', existing_run.plan} end
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
                 fork = ARGV.forked_from, start_at = start_at, deadline = timeout and (NOW + timeout) or 0, depth = 0}
if ARGV.parent ~= '' then
  local parent_run = redis.pcall('HMGET', B .. 'run:' .. ARGV.parent, 'st', 'root', 'dep', 'dl')
  if not parent_run.status then return {'no-parent'} end
  options.parent = ARGV.parent
  options.root = parent_run.root or ARGV.parent
  options.depth = tonumber(parent_run.depth or 0) + 1
  if options.depth > tonumber(ARGV.max_depth) then return {'too-deep'} end
  if parent_run.deadline and (options.deadline == 0 or tonumber(parent_run.deadline) < options.deadline) then options.deadline = tonumber(parent_run.deadline) end
end

if is_taken(id) then
  if existing_run['err'] or redis.call('EXISTS', B .. 'run:' .. id) == 1 then return {'conflict', 'broken', ''} end
  redis.call('UNLINK', B .. 'events:' .. id) -- the history of a run whose record was deleted by hand
end

-- The common start: at once, of a root run, whose plan the compiler has flagged. Without the machinery that the others need.
local function begin_fast()
  if options.parent or start_at > NOW or not meta.fast then return false end
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
  for queue, instance_ids in pairs(waiting) do enqueue(id, queue, instance_ids) end -- first: if that fails there is no run
  write_fields_of(k, record)
  add_to_indexes(options, 'queued')
  if keeps_history() then redis.call('RPUSH', B .. 'events:' .. id, 'B|0||') end
  return true
end
if begin_fast() then return {'started', plan} end

--@include run plan joins graph loops memory_usage notify run_end child_run
if options.parent then
  redis.call('HSET', B .. 'run:' .. options.parent, 'k:' .. id, '')
  redis.call('HSETNX', B .. 'run:' .. options.parent, 'kids', 0) -- there is something below it
end
local r = create_run(options, ARGV.context)
if r.st == 'queued' then begin_run(r) end
commit()
return {'started', plan}
