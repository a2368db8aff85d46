-- The runs one call touches: read once, changed in memory, written back together by `save_all`.

local runs, run_order, ended_now = {}, {}, {}

-- What is done in one call for several outcomes begins anew for each.
local function forget_runs()
  runs, run_order, ended_now = {}, {}, {}
end

-- @fields run_fields status plan created active parked stop parent blueprint history todo messages has_steps more...
-- Loads a run, or nil when there is none. `fields`: what else of its hash is going to be needed, to be read along; new_record: what
-- this call has written of it just now, by field, where there was nothing before: then nothing is read.
-- Raises BROKENRECORD.
local function load_run(id, fields, new_record)
  local r = runs[id]
  if r then return r end
  local k = B .. 'run:' .. id
  local names = {'st', 'plan', 'cr', 'live', 'park', 'stop', 'par', 'bp', 'h', 'todo', 'mn', 'steps'}
  if fields and #fields > 900 then fields = nil end -- each is read when it is needed
  for i = 1, fields and #fields or 0 do names[run_fields.more - 1 + i] = fields[i] end
  local run_fields = new_record and {} or redis.pcall('HMGET', k, unpack(names)) -- 912 at most
  for i = 1, new_record and #names or 0 do run_fields[i] = new_record[names[i]] or false end
  if run_fields['err'] then refuse_record(id, run_fields['err']) end
  if not run_fields.status then return nil end
  local created, active, parked, w = tonumber(run_fields.created), tonumber(run_fields.active or 0), tonumber(run_fields.parked or 0), {}
  if not (STATUSES[run_fields.status] and run_fields.plan and created and active and parked and run_fields.blueprint) then
    refuse_record(id, 'one of its fields st, plan, cr, live, park, bp is missing or wrong')
  end
  if fields then
    for i = 1, #fields do w[fields[i]] = run_fields[run_fields.more - 1 + i] end
  end
  r = {id = id, k = k, st = run_fields.status, st0 = run_fields.status, plan = run_fields.plan, cr = created, active = active,
       active0 = active, parked = parked, parked0 = parked, stop = run_fields.stop, par = run_fields.parent, bp = run_fields.blueprint,
       silent = run_fields.history == 'off', todo = run_fields.todo, mn = run_fields.messages, has_steps = run_fields.has_steps, w = new_record or w, is_new = new_record, d = {}, ev = {}, fired = {}, drops = {}, unlinked = {}, work = {}, touched = {}}
  runs[id] = r
  run_order[#run_order + 1] = r
  return r
end

-- Another run that the one at hand has to do with. If its record cannot be read it is treated as removed.
local function load_related(id, fields)
  local fine, r = pcall(load_run, id, fields)
  if fine then return r end
  set_aside('run', id, r)
end

-- A field of the run hash as this call sees it (false when absent).
local function get(r, field)
  local v = r.d[field]
  if v == nil then v = r.w[field] end
  if v == nil then
    v = not r.is_new and redis.call('HGET', r.k, field)
    r.w[field] = v
  end
  return v
end

local function put(r, field, value)
  r.d[field] = value
end

-- Writes a context key, or deletes it (false). instance_id: of the node that writes it; nil for what a run closes with.
local function put_context(r, instance_id, key, value)
  local before, writers = before_write(r.k, key, instance_id)
  if before then put(r, 'u:' .. key, before) end
  if writers then put(r, 'cw:' .. key, writers) end
  put(r, 'c:' .. key, value)
end

local function event(r, kind, instance_id, rest)
  if not r.silent then r.ev[#r.ev + 1] = kind .. '|' .. elapsed(r.cr) .. '|' .. instance_id .. '|' .. (rest or '') end
end

-- Node states: `S|attempt|claims|crashes|since|more`, times relative to the run's creation; of what completed at its first
-- attempt and claim, as most nodes do, just `C|since|how long it took`. Of a node that has ended, `since` is when it first
-- began, and `more` when it ended and, if it was, for how long it was parked.
local function node_state(r, instance_id)
  local v = get(r, 'n:' .. instance_id)
  if not v then return nil end
  local s, attempt, claims, crashes, since, more = string.match(v, '^(%a)|(%d+)|(%d+)|(%d+)|(%d+)|?(.*)$')
  if not s then
    local took
    s, since, took = string.match(v, '^(C)|(%d+)|(%d+)$')
    attempt, claims, crashes, more = 1, 1, 0, s and string.format('%d', since + took)
  end
  if not s then refuse_record(r.id, 'its field n:' .. instance_id .. ' is wrong') end
  return {s = s, attempt = tonumber(attempt), claims = tonumber(claims), crashes = tonumber(crashes), since = since, more = more}
end

-- Keeps when a node first began and how long it was parked, while it does not run: `t:<instance_id>` is `began|parked`. Returns both;
-- nil for a node that has not begun. `ends`: they are about to be kept with the node's last state.
local function note_times(r, instance_id, n, ends)
  local runs = n.s == 'L'
  if not n.s or n.claims == 0 or not ends and not runs and n.s ~= 'W' then return nil, 0 end
  local kept = not (runs and n.claims == 1) and get(r, 't:' .. instance_id)
  local began, parked = string.match(kept or '', '^(%d+)|(%d+)$')
  began, parked = began or runs and n.since or nil, tonumber(parked or 0)
  if n.s == 'W' and n.since then parked = parked + elapsed(r.cr, n.since) - n.since end
  if not ends and began then
    put(r, 't:' .. instance_id, began .. '|' .. parked)
  elseif kept then
    put(r, 't:' .. instance_id, false)
  end
  return began, parked
end

local drop_kept
do -- a script has 200 locals at most

-- Removes the messages that are kept for a node, if there are any. `mn` holds each instance that has some, and a line break behind it.
local function drop_messages(r, instance_id)
  local from, to = string.find('\n' .. r.mn, '\n' .. instance_id .. '\n', 1, true)
  if not from then return end
  local first, next = string.match(get(r, 'mq:' .. instance_id), '^(%d+)|(%d+)$')
  for i = tonumber(first), next - 1 do put(r, 'm:' .. i .. ':' .. instance_id, false) end
  put(r, 'mq:' .. instance_id, false)
  r.mn = string.sub(r.mn, 1, from - 1) .. string.sub(r.mn, to)
  r.mn = r.mn ~= '' and r.mn
  put(r, 'mn', r.mn)
end

-- Removes the recorded steps of a node. Their number and bytes are kept: `sz:` is `number|bytes|past|past_bytes`, those that are
-- recorded and those that were; of an item of a batch with its owner.
local function drop_steps(r, instance_id, owner)
  local number, bytes, past, past_bytes = string.match(get(r, 'sz:' .. instance_id) or '', '^(%d+)|(%d+)|(%d+)|(%d+)$')
  if not number then return end
  for _, kind in ipairs(number ~= '0' and {'steps', 'values'} or {}) do
    r.unlinked[#r.unlinked + 1] = B .. kind .. ':' .. r.id .. '|' .. instance_id
  end
  past, past_bytes = past + number, past_bytes + bytes
  if owner then
    local _, _, others, others_bytes = string.match(get(r, 'sz:' .. owner) or '0|0|0|0', '^(%d+)|(%d+)|(%d+)|(%d+)$')
    put(r, 'sz:' .. instance_id, false)
    past, past_bytes = past + others, past_bytes + others_bytes
  end
  put(r, 'sz:' .. (owner or instance_id), string.format('0|0|%.0f|%.0f', past, past_bytes))
end

-- Removes what is kept for a node until it ends: messages and recorded steps. owner: of an item of a batch.
function drop_kept(r, instance_id, owner)
  if r.mn then drop_messages(r, instance_id) end
  if r.has_steps then drop_steps(r, instance_id, owner) end
end

end

local function put_node(r, instance_id, n, s, more)
  local ends, now = s == 'C' or s == 'K' or s == 'F' or s == 'X', elapsed(r.cr)
  local began, parked = note_times(r, instance_id, n, ends)
  if ends then drop_kept(r, instance_id) end
  local head = s .. '|' .. (s == 'X' and not began and 0 or n.attempt) .. '|' .. n.claims .. '|' .. n.crashes .. '|'
  began = began or now
  now = math.max(now, tonumber(began))
  if head == 'C|1|1|0|' and parked == 0 then
    put(r, 'n:' .. instance_id, 'C|' .. began .. '|' .. now - began)
  elseif ends then
    put(r, 'n:' .. instance_id, head .. began .. '|' .. now .. (parked > 0 and '|' .. parked or ''))
  else
    put(r, 'n:' .. instance_id, more and (head .. now .. '|' .. more) or (head .. now))
  end
end

-- A failure as the history has it: `{"type", "message"}`, the message shortened, without the traceback.
local function brief(failure)
  local LONGEST_REASON = 2000 -- bytes of a message that the history keeps
  local fine, f = pcall(cjson.decode, failure)
  if not fine or type(f) ~= 'table' then return '' end
  local message = type(f.message) == 'string' and f.message or ''
  if #message > LONGEST_REASON then
    local cut = LONGEST_REASON
    while cut > 0 and (string.byte(message, cut + 1) or 0) >= 128 and string.byte(message, cut + 1) < 192 do cut = cut - 1 end
    message = string.sub(message, 1, cut) .. '...'
  end
  return cjson.encode({type = type(f.type) == 'string' and f.type or '', message = message, input = f.input})
end

local function count(name, by)
  write_beside('HINCRBY', 'stats', name, by or 1)
end

-- Removes an entry of a sorted set once the run is written.
local function drop(r, name, member)
  r.drops[#r.drops + 1] = {name, member}
end

local function drop_timer(r, kind, instance_id)
  drop(r, 'timers', timer_of(kind, r.id, instance_id))
end

local function set_status(r, st)
  if r.st == st then return end
  r.st = st
  put(r, 'st', st)
end

-- Queues what became ready in this call and was not claimed in it.
local function enqueue_fired(r)
  local queues
  for _, f in ipairs(r.fired) do
    if not f.claimed then
      queues = queues or {}
      local instance_ids = queues[f.queue] or {}
      instance_ids[#instance_ids + 1] = f.instance_id
      queues[f.queue] = instance_ids
    end
  end
  for queue, instance_ids in pairs(queues or {}) do enqueue(r.id, queue, instance_ids) end
end

local function write_fields(r)
  local pairs_, deleted = {}, {}
  for field, v in pairs(r.d) do
    if v == false then deleted[#deleted + 1] = field else pairs_[#pairs_ + 1] = field; pairs_[#pairs_ + 1] = v end
    if #pairs_ >= 2000 then redis.call('HSET', r.k, unpack(pairs_)); pairs_ = {} end -- 2,000 at most, as below
    if #deleted >= 2000 then redis.call('HDEL', r.k, unpack(deleted)); deleted = {} end -- at most as many
  end
  if #pairs_ > 0 then redis.call('HSET', r.k, unpack(pairs_)) end -- 2,000 at most
  if #deleted > 0 then redis.call('HDEL', r.k, unpack(deleted)) end -- 2,000 at most
end

-- Entries that make nodes ready come first: one too many is harmless, and if they cannot be written nothing is. What only
-- helps to find and follow runs comes last.
local function save_all()
  for _, r in ipairs(run_order) do
    if #r.fired > 0 then enqueue_fired(r) end
  end
  for _, r in ipairs(run_order) do
    if r.active ~= r.active0 then put(r, 'live', r.active > 0 and r.active) end
    if r.parked ~= r.parked0 then put(r, 'park', r.parked > 0 and r.parked) end
    write_fields(r)
  end
  for _, r in ipairs(run_order) do
    for _, key in ipairs(r.unlinked) do redis.call('UNLINK', key) end
    for _, dropped in ipairs(r.drops) do write_beside('ZREM', dropped[1], dropped[2]) end
    if r.st ~= r.st0 then
      write_beside('ZREM', 'idx:st:' .. r.st0, r.id)
      write_beside('ZADD', 'idx:st:' .. r.st, r.cr, r.id)
    end
    if #r.ev > 0 then add_events(r.id, r.ev) end
    if #r.ev > 0 or r.st ~= r.st0 then
      notify_run(r.k, TERMINAL[r.st] and r.st)
    end
    for instance_id, limit in pairs(r.freed or {}) do leave_slot(limit, r.id .. '|' .. instance_id) end
  end
  admit_touched()
end
