-- Handles what is due: takes over expired leases, fires timers, wakes sleeping workers for ready nodes.
-- Any process may run it at any time; a bounded slice of the work is done per call.
-- KEYS clock
-- ARGV limit max_crashes grace_ms queues alone
--   queues: comma separated
--   alone: comma separated: workers that hold nothing in all other partitions; "" in a deployment of one
-- RETURNS {items done, ms until the next lease or timer is due (-1: none), taken over}
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_stop claimed_node batch node_failure held_nodes lost_worker run_record child_run take_over

local limit, max_crashes, grace = tonumber(ARGV.limit), tonumber(ARGV.max_crashes), tonumber(ARGV.grace_ms)
local done, taken_over = 0, 0
for worker in string.gmatch(ARGV.alone, '[^,]+') do alone_elsewhere[worker] = true end

local function worker_lost(r, instance_id, n)
  taken_over = taken_over + 1
  lose_node(r, instance_id, n, max_crashes)
end

local function lease_expired(member)
  local id, instance_id = string.match(member, '^([^|]+)|(.+)$')
  if not id then error('no entry of a node', 0) end
  local r = load_run(id)
  local n = r and not TERMINAL[r.st] and node_state(r, instance_id)
  if n and n.s == 'L' then
    free_slot(r, instance_id)
    if plan_gone(r) then lose_plan(r, instance_id) else worker_lost(r, instance_id, n) end
  end
end

local function timer_is_due(member)
  local kind, id, instance_id = string.match(member, '^(%a)|([^|]+)|(.*)$')
  if not id then error('no timer of a run', 0) end
  if kind == 'l' then return admit(id) end
  local r = load_run(id)
  if r and not TERMINAL[r.st] then
    local n = instance_id ~= '' and node_state(r, instance_id)
    if plan_gone(r) then
      if kind ~= 'p' or n and (n.s == 'R' or n.s == 'L') then lose_plan(r, n and instance_id or '') end
    elseif kind == 'T' and n and n.s == 'T' then
      requeue(r, instance_id, n, 0)
    elseif kind == 'W' and n and n.s == 'W' then
      if n.more == 'model' then resume(r, instance_id, n) else ready_with(r, instance_id, n, {'timer'}) end
    elseif kind == 'b' and r.st == 'scheduled' then
      set_status(r, 'queued')
      if get(r, 'pl') == 'w' then pass_on_place('unplaced', r.id, r.cr) else begin_run(r) end
    elseif kind == 'c' then
      local left = take_up(r)
      if left then
        r.work = left[1]
        for _, loop in ipairs(left[2]) do r.touched[loop] = true end
        maybe_finish(r)
      end
    elseif kind == 'd' then
      stop_run(r, 'timeout', grace)
    elseif kind == 'g' then
      force_stop(r)
    end
  end
end

-- Each entry is handled as a whole, apart from the others: what cannot be read is set aside, and takes nothing else with it.
local function work_off(name, handle)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', B .. name, '-inf', NOW, 'LIMIT', 0, limit)) do
    if is_spent() then return end -- the next sweep continues
    steps = steps + 1
    redis.call('ZREM', B .. name, member)
    forget_runs()
    local fine, problem = pcall(function()
      handle(member)
      commit()
    end)
    if not fine and is_refusal(text_of(problem)) then
      redis.call('ZADD', B .. name, NOW, member) -- for the next sweep that Redis allows
      error(problem, 0)
    end
    if not fine then set_aside(name, member, problem) end
    done = done + 1
  end
end

-- What cannot be read as a whole holds up nothing else: its error is raised at the end.
local failure

local function attempt(what, ...)
  local fine, problem = pcall(what, ...)
  if not fine then failure = failure or problem end
end

attempt(work_off, 'leases', lease_expired)
attempt(work_off, 'timers', timer_is_due)

local LONG = 100 -- ms that a node may be ready before workers are notified that are not at home in the partition

local function wake(queue)
  if PAUSED[queue] then return end
  if WAKE then
    local ready = B .. 'ready:' .. queue
    local first = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
    local _, since = level_of(tonumber(first[2] or NOW))
    local channel = NOW - since > LONG and B .. 'help' or WAKE
    if first[1] then redis.call('PUBLISH', channel, string.format('%d ', redis.call('ZCARD', ready)) .. queue) end
    return
  end
  if redis.call('LLEN', B .. 'q:' .. queue) > 0 then return end
  local first = redis.call('ZRANGE', B .. 'ready:' .. queue, 0, 0)[1]
  local id, instance_id = string.match(first or '', '^([^|]+)|(.+)$')
  if id then redis.call('LPUSH', B .. 'q:' .. queue, message(id, instance_id)) end
end
for queue in string.gmatch(ARGV.queues, '[^,]+') do
  local fine, problem = pcall(wake, queue)
  if not fine then set_aside('key', 'q:' .. queue, problem) end
end

if failure then error(failure, 0) end
local wait = -1
for _, key in ipairs({'leases', 'timers'}) do
  local head = redis.call('ZRANGE', B .. key, 0, 0, 'WITHSCORES')
  if head[2] then
    local ms = math.max(0, tonumber(head[2]) - NOW)
    if wait < 0 or ms < wait then wait = ms end
  end
end
return {done, wait, taken_over}
