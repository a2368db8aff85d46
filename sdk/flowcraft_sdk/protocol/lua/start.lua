-- Records a run and makes its first nodes ready, in one commit.
-- KEYS clock
-- ARGV token run blueprint version digest on_conflict start_at run_timeout tags memo parent max_depth forked_from expected, then key value ...
--   token: names this call; INBOX@MARK has the run's end told to that inbox of the caller's, under this mark
--   version: a plan hash or ''; start_at ms or ''; run_timeout ms or ''; tags, memo JSON or ''; parent run id or ''; forked_from: the run that this one does again, or '';
--   expected: the plan that the caller thinks is current, or ''
-- RETURNS {started, plan} | {attached, status, plan} | {conflict, exists|different_input|different_blueprint|broken, blueprint} | {other-plan, the current one}
--   (broken: what lies under the id is no record of a run) | {no-blueprint} | {no-version} | {no-parent} | {too-deep}
--   The same token again answers as the first time: a call that redis-py re-sent is applied once.
--@include base run_record

local token, id, blueprint, version, digest, on_conflict = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local start_at, timeout = tonumber(ARGV[7]) or 0, tonumber(ARGV[8])

local there = redis.pcall('HMGET', B .. 'run:' .. id, 'st', 'plan', 'tok', 'bp', 'dg')
if there[1] then
  if there[3] == token then return {'started', there[2]} end
  if on_conflict == 'raise' then return {'conflict', 'exists', there[4]} end
  if there[4] ~= blueprint or (version ~= '' and version ~= there[2]) then return {'conflict', 'different_blueprint', there[4]} end
  if (there[5] or '') ~= digest then
    local current = version == '' and redis.call('HGET', B .. 'blueprints', blueprint)
    -- The defaults that the caller filled in are those of an older plan.
    if current and ARGV[14] ~= '' and ARGV[14] ~= current then return {'other-plan', current} end
    return {'conflict', 'different_input', there[4]}
  end
  return {'attached', there[1], there[2]}
end

local plan = version
if plan == '' then plan = redis.call('HGET', B .. 'blueprints', blueprint) end
if not plan then return {'no-blueprint'} end
if ARGV[14] ~= '' and ARGV[14] ~= plan then return {'other-plan', plan} end
local meta = redis.call('HGET', B .. 'plan:' .. plan, 'meta')
if not meta then return {'no-version'} end
meta = cjson.decode(meta)
if meta.id ~= blueprint then return {'no-version'} end

local options = {id = id, blueprint = blueprint, plan = plan, token = token, digest = digest, tags = ARGV[9], memo = ARGV[10],
                 fork = ARGV[13], start_at = start_at, deadline = timeout and (NOW + timeout) or 0, depth = 0}
if ARGV[11] ~= '' then
  local p = redis.pcall('HMGET', B .. 'run:' .. ARGV[11], 'st', 'root', 'dep', 'dl')
  if not p[1] then return {'no-parent'} end
  options.parent = ARGV[11]
  options.root = p[2] or ARGV[11]
  options.depth = tonumber(p[3] or 0) + 1
  if options.depth > tonumber(ARGV[12]) then return {'too-deep'} end
  if p[4] and (options.deadline == 0 or tonumber(p[4]) < options.deadline) then options.deadline = tonumber(p[4]) end
end

if is_taken(id) then
  if there.err or redis.call('EXISTS', B .. 'run:' .. id) == 1 then return {'conflict', 'broken', ''} end
  redis.call('UNLINK', B .. 'events:' .. id) -- the history of a run whose record was deleted by hand
end

-- The common start: at once, of a root run, whose plan the compiler has flagged. Without the machinery that the others need.
local function begin_fast()
  if options.parent or start_at > NOW or not meta.fast then return false end
  local fields, waiting, record = {}, {}, record_of(options, 'queued', 15, #meta.starts)
  for i, node in ipairs(meta.starts) do fields[i] = 'n:' .. node end
  for i, text in ipairs(redis.call('HMGET', B .. 'plan:' .. plan, unpack(fields))) do -- 100 at most
    local e = text and cjson.decode(text)
    if not e then return false end
    waiting[e[5]] = waiting[e[5]] or {}
    table.insert(waiting[e[5]], meta.starts[i])
    record[#record + 1] = fields[i]
    record[#record + 1] = 'R|1|0|0|0|' .. e[5]
  end
  local k = B .. 'run:' .. id
  for queue, instance_ids in pairs(waiting) do enqueue(id, queue, instance_ids) end -- first: if that fails there is no run
  write_fields_of(k, record)
  add_to_indexes(options, 'queued')
  if keeps_history() then redis.call('RPUSH', B .. 'events:' .. id, 'B|0||') end
  return true
end
if begin_fast() then return {'started', plan} end

--@include run joins graph loops memory_usage run_end child_run
if options.parent then
  redis.call('HSET', B .. 'run:' .. options.parent, 'k:' .. id, '')
  redis.call('HSETNX', B .. 'run:' .. options.parent, 'kids', 0) -- there is something below it
end
local r = create_run(options, 15)
if r.st == 'queued' then begin_run(r) end
commit()
return {'started', plan}
