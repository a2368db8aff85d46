-- What must hold of a run and the entries that stand for it elsewhere. `defect(kind, subject, repair)` is called for what does not.

local ACTIVE = {R = true, L = true, T = true, W = true}
local RENEWAL_TIME = 10000 -- ms that a worker has to renew a lease that is put back

-- A record that holds what no script writes there: each such field is a defect, and its repair replaces it by what is
-- still known, so that the run can end. Returns whether the run can be loaded now; and its nodes whose state is lost.
-- skip_nodes: they are looked over in pieces.
local function mend_record(id, fix, defect, skip_nodes)
  local k = B .. 'run:' .. id
  local v = redis.pcall('HMGET', k, 'st', 'cr', 'live', 'park', 'plan', 'bp', 'en')
  if v.err then
    defect('record-broken', v.err)
    return false, {}
  end
  local score = redis.pcall('ZSCORE', B .. 'idx:st:' .. (v[1] or ''), id)
  local instead = {
    st = not STATUSES[v[1]] and (v[7] and 'failed' or 'running'),
    cr = not tonumber(v[2]) and (type(score) == 'string' and score or NOW),
    ['live'] = not tonumber(v[3] or 0) and 0,
    ['park'] = not tonumber(v[4] or 0) and 0,
    plan = not v[5] and '-',
    bp = not v[6] and '-',
  }
  local wrong, lost = false, {}
  for field, value in pairs(instead) do
    if value then
      wrong = true
      defect('field-broken', field, function() redis.call('HSET', k, field, value) end)
    end
  end
  if wrong and not fix then return false, lost end
  local r = load_run(id)
  for _, field in ipairs(skip_nodes and {} or redis.call('HKEYS', k)) do
    if string.sub(field, 1, 2) == 'n:' and not pcall(node_state, r, string.sub(field, 3)) then
      local instance_id = string.sub(field, 3)
      lost[#lost + 1] = instance_id
      defect('field-broken', field, function() put(r, field, 'L|1|0|0|0|') end)
    end
  end
  return fix or not lost[1], lost
end

-- Fails a node whose state is lost.
local function fail_lost_node(r, instance_id)
  local n = node_state(r, instance_id)
  if TERMINAL[r.st] or n.s ~= 'L' then return end
  drop_lease(r, instance_id)
  fail_node(r, instance_id, n, cjson.encode({type = 'RecordBroken', node = instance_id, attempt = 1, retryable = false, at = NOW,
    message = 'something else had been written over the state of this node in Redis; start the run again'}), nil, true)
end

local function first_active(r)
  local first
  each_node(r, function(instance_id, n) if ACTIVE[n.s] and not first then first = instance_id end end)
  return first
end

local function examine_indexes(r, defect)
  local indexes = {['idx:st:' .. r.st] = r.cr, ['idx:bp:' .. r.bp] = r.cr}
  local tags = get(r, 'tags')
  local fine, list = pcall(cjson.decode, tags or '[]')
  if not fine or type(list) ~= 'table' then
    defect('field-broken', 'tags', function() put(r, 'tags', false) end)
    list = {}
  end
  for _, tag in ipairs(list) do indexes['idx:tag:' .. tag] = r.cr end
  if TERMINAL[r.st] and not r.par then
    indexes['ended:' .. (r.st == 'timed_out' and 'failed' or r.st)] = tonumber(get(r, 'en') or NOW)
  end
  for name, score in pairs(indexes) do
    local there = redis.pcall('ZSCORE', B .. name, r.id)
    if type(there) == 'table' then
      set_aside('key', name, there)
    elseif not there then
      defect('not-in-index', name, function() write_beside('ZADD', name, score, r.id) end)
    end
  end
end

local function examine_parent(r, defect)
  if not r.par then return end
  local parent = B .. 'run:' .. r.par
  if redis.call('TYPE', parent).ok ~= 'hash' then
    defect('parent-missing', r.par, function()
      if TERMINAL[r.st] then
        redis.call('ZADD', B .. 'ended:' .. (r.st == 'timed_out' and 'failed' or r.st), tonumber(get(r, 'en') or NOW), r.id)
      end
      put(r, 'par', false)
      put(r, 'pn', false)
      r.par = false
    end)
  elseif get(r, 'pn') and redis.call('HEXISTS', parent, 'k:' .. r.id) == 0 then
    defect('child-not-listed', r.par, function()
      redis.call('HSET', parent, 'k:' .. r.id, get(r, 'pn'))
      redis.call('HSETNX', parent, 'kids', 0)
    end)
  end
end

local function child_status(r, instance_id)
  local child = get(r, 'w:' .. instance_id)
  local st = child and redis.pcall('HGET', B .. 'run:' .. child, 'st')
  return type(st) == 'string' and st, child or '' -- what is no record of a run counts as missing
end

local function is_parked(r, instance_id, n)
  return n.s == 'W' and (n.more ~= 'subflow' or child_status(r, instance_id) == 'waiting')
end

-- The counters of active and parked nodes, against the nodes themselves.
local function examine_counts(r, defect)
  local active, parked = r.todo and 1 or 0, 0
  each_node(r, function(instance_id, n)
    if ACTIVE[n.s] then active = active + 1 end
    if is_parked(r, instance_id, n) then parked = parked + 1 end
  end)
  if active ~= r.active then defect('live-count', r.active .. ' for ' .. active, function() r.active = active end) end
  if parked ~= r.parked then defect('park-count', r.parked .. ' for ' .. parked, function() r.parked = parked end) end
end

local function examine_waiting(r, instance_id, n, defect)
  local member = r.id .. '|' .. instance_id
  if (n.more == 'timer' or n.more == 'model') and not redis.call('ZSCORE', B .. 'timers', timer_of('W', r.id, instance_id)) then
    defect('timer-missing', instance_id, function() set_timer(NOW, 'W', r.id, instance_id) end)
  elseif n.more == 'batch' then
    local b = batches().record(r, instance_id)
    if b and b.done == b.total then
      defect('batch-unheard', instance_id, function() ready_with(r, instance_id, n, {'batch'}) end)
    end
  elseif n.more == 'subflow' then
    local st, child = child_status(r, instance_id)
    if not st then
      defect('child-missing', instance_id, function() take_child(r, instance_id, n, child, 'failed', r.stop) end)
    elseif TERMINAL[st] then
      defect('child-unheard', instance_id, function() take_child(r, instance_id, n, child, st, r.stop) end)
    end
  end
end

local SILENCE = 60000 -- ms after which a worker that is not seen runs nothing any more, whatever its leases say

-- A lease that lasts on though its worker is silent would hold the node until it runs out.
local function examine_lease(r, instance_id, n, ends, defect)
  local worker = string.match(n.more or '', '^[^!]*')
  if worker == '' or tonumber(ends) <= NOW + RENEWAL_TIME or NOW - r.cr - n.since < SILENCE then return end
  local seen = redis.pcall('ZSCORE', B .. 'workers', worker)
  if type(seen) == 'string' and NOW - tonumber(seen) < SILENCE then return end
  defect('worker-silent', instance_id, function() redis.call('ZADD', LEASES, NOW + RENEWAL_TIME, r.id .. '|' .. instance_id) end)
end

-- An active node has the entry by which a worker or a sweeper finds it.
local function examine_node(r, instance_id, n, defect)
  local member = r.id .. '|' .. instance_id
  local queue, limit = limit_in(n.more or '')
  if n.s == 'R' and not redis.call('ZSCORE', B .. 'ready:' .. queue, member) and not (limit and redis.call('ZSCORE', B .. 'limited:' .. limit, member)) then
    defect('ready-not-queued', instance_id, function() queue_node(r, instance_id, n.more) end)
  elseif n.s == 'L' then
    local ends = redis.call('ZSCORE', LEASES, member)
    if not ends then
      defect('running-without-lease', instance_id, function() redis.call('ZADD', LEASES, NOW + RENEWAL_TIME, member) end)
    else
      examine_lease(r, instance_id, n, ends, defect)
    end
  elseif n.s == 'T' and not redis.call('ZSCORE', B .. 'timers', timer_of('T', r.id, instance_id)) then
    defect('timer-missing', instance_id, function() set_timer(NOW, 'T', r.id, instance_id) end)
  elseif n.s == 'W' then
    examine_waiting(r, instance_id, n, defect)
  end
end

-- Steps are counted in a form that scripts read, and none are left of a node that has ended.
local function examine_steps(r, defect)
  for _, field in ipairs(r.has_steps and redis.call('HKEYS', r.k) or {}) do
    if string.sub(field, 1, 3) == 'sz:' then
      local instance_id = string.sub(field, 4)
      if not string.find(get(r, field), '^%d+|%d+|%d+|%d+$') then
        defect('field-broken', field, function() put(r, field, '0|0|0|0') end)
      end
      local n, name = node_state(r, instance_id), r.id .. '|' .. instance_id
      if (not n or not ACTIVE[n.s]) and redis.call('EXISTS', B .. 'steps:' .. name, B .. 'values:' .. name) > 0 then
        defect('steps-left', instance_id, function() redis.call('UNLINK', B .. 'steps:' .. name, B .. 'values:' .. name) end)
      end
    end
  end
end

-- The run's own timers: its beginning, its deadline, the end of a grace.
local function examine_timers(r, defect)
  local function expect(kind, at)
    if not redis.call('ZSCORE', B .. 'timers', timer_of(kind, r.id)) then
      defect('timer-missing', kind, function() set_timer(at, kind, r.id) end)
    end
  end
  if r.st == 'scheduled' then expect('b', NOW) end
  if r.todo then expect('c', NOW) end
  if get(r, 'dl') and not closing_of(r) then expect('d', get(r, 'dl')) end
  if r.stop and r.active > 0 and not get(r, 'forced') then expect('g', NOW + tonumber(setting('cancelGrace', '30000'))) end
end

-- Ends a run in which nothing is active: as it would have ended, or as failed if a node was never decided.
local function end_stalled(r)
  local undecided
  if closing_of(r) then return finish(r) end
  for _, field in ipairs(redis.call('HKEYS', B .. 'plan:' .. r.plan)) do
    if string.sub(field, 1, 2) == 'n:' then
      local n = node_state(r, string.sub(field, 3))
      local closes = (not n or n.s == 'P') and options_of(r, string.sub(field, 3)).closing
      if (not n or n.s == 'P') and not closes then undecided = undecided or string.sub(field, 3) end
    end
  end
  if undecided and not r.stop then
    put_node(r, undecided, {attempt = 0, claims = 0, crashes = 0}, 'F')
    put(r, 'f:' .. undecided, cjson.encode({type = 'Stalled', node = undecided, attempt = 0, retryable = false, at = NOW,
      message = 'nothing was active in the run and this node was never decided; start the run again'}))
    put(r, 'fn', tonumber(get(r, 'fn') or 0) + 1)
    if not get(r, 'f1') then put(r, 'f1', undecided) end
  end
  finish(r)
end
