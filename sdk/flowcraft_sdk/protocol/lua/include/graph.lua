-- What follows a decision: edges, joins, skips, loops. For the layout of entries and edges see plan.lua.
-- Marks: u undecided, t taken, d dead, f failed (the source failed and the run continues), b belongs to another iteration.

local entries, NO_OPTIONS = {}, {}

local function field_of_plan(plan, field)
  local key = plan .. field
  local entry = entries[key]
  if entry == nil then
    local text = redis.call('HGET', B .. 'plan:' .. plan, field)
    entry = text and cjson.decode(text) or false
    if entry and string.sub(field, 1, 2) == 'n:' and not entry.options then entry.options = NO_OPTIONS end
    entries[key] = entry
    if entry then entries[plan] = true end -- the plan is there
  end
  return entry
end

local function plan_field(r, field)
  return field_of_plan(r.plan, field)
end

-- Whether the plan of a run is no longer in Redis. Such a run cannot continue; the sweeper fails it.
local function plan_gone(r)
  return not entries[r.plan] and redis.call('EXISTS', B .. 'plan:' .. r.plan) == 0
end

-- What stands for an entry when the plan is missing: a node without edges.
local LOST = {'all', {}, {}, {}, 'default', NO_OPTIONS}

-- The plan entry of an instance; items of a batch share the entry of their node, and that of a dynamic node is in its run.
local function entry_of(r, instance_id)
  local node = item_of(instance_id) or instance_id
  local entry = plan_field(r, 'n:' .. node)
  if entry then return entry end
  local key = '|' .. r.id .. '|' .. node -- no plan begins so
  local dynamic = not entries[key] and get(r, 'y:' .. node)
  entries[key] = entries[key] or (dynamic and cjson.decode(dynamic)) or LOST
  return entries[key]
end

-- Items of a batch may have a queue of their own, with the limit of the handler that they call.
local function queue_of(r, instance_id)
  local entry = entry_of(r, instance_id)
  return item_of(instance_id) and entry.options.itemQueue or entry.queue
end

-- A node is not claimed any more, or not to be: its slot of a limit goes once the run is written.
local function free_slot(r, instance_id)
  local _, limit = limit_in(queue_of(r, instance_id))
  if not limit then return end
  r.freed = r.freed or {}
  r.freed[instance_id] = limit
end

local function drop_lease(r, instance_id)
  drop(r, 'leases', r.id .. '|' .. instance_id)
  free_slot(r, instance_id)
end

local function options_of(r, instance_id)
  local entry = entry_of(r, instance_id)
  return entry.options
end

-- Puts a ready node into its queue once the run is written, if the caller does not claim it.
local function queue_node(r, instance_id, queue)
  r.fired[#r.fired + 1] = {instance_id = instance_id, queue = queue}
end

local function make_ready(r, instance_id, n, queue)
  put_node(r, instance_id, n, 'R', queue)
  queue_node(r, instance_id, queue)
end

-- Puts a node back into its queue, at once or `delay` ms later.
local function requeue(r, instance_id, n, delay)
  local queue = queue_of(r, instance_id)
  if delay <= 0 then return make_ready(r, instance_id, n, queue) end
  put_node(r, instance_id, n, 'T', queue)
  set_timer(NOW + delay, 'T', r.id, instance_id)
end

local PIECE = 100

local function edge_count(entry)
  return type(entry.outs) == 'table' and #entry.outs or entry.outs
end

local function edge_of(r, node, entry, i)
  if type(entry.outs) == 'table' then return entry.outs[i] end
  return plan_field(r, 'e:' .. math.floor((i - 1) / PIECE) .. ':' .. node)[(i - 1) % PIECE + 1]
end

-- A call takes a bounded number of steps, so that Redis serves others as well; what is left is put off, see `settle`.
local steps, budget = 0, nil

local function most_steps()
  budget = budget or tonumber(setting('steps', '150'))
  return budget
end

local function is_spent()
  return steps > 1 and steps >= most_steps()
end

local function loop_record(r, loop)
  local iteration, active, back, closed = string.match(get(r, 'l:' .. loop) or '0|0|0|', '^(%d+)|(%-?%d+)|(%d+)|(.*)$')
  return {iteration = tonumber(iteration), active = tonumber(active), back = tonumber(back), closed = closed}
end

local function put_loop(r, loop, l)
  put(r, 'l:' .. loop, l.iteration .. '|' .. l.active .. '|' .. l.back .. '|' .. l.closed)
end

-- Iterations of the loops around a node, `2` or `1.4`, outermost first.
-- A compensation may run for several executions: its iteration is the number of the one.
local function iterations(r, entry)
  if entry.options.closing == 'c' then return string.match(get(r, 'cl') or '', '|(%d+)$') or '' end
  if not entry.options.loops then return '' end
  local list = {}
  for _, loop in ipairs(entry.options.loops) do list[#list + 1] = loop_record(r, loop).iteration end
  return table.concat(list, '.')
end

-- Notes something about a node: inside of loops along with the iterations, as `node#2`.
local function node_event(r, kind, instance_id, rest)
  if r.silent then return end
  local its = iterations(r, entry_of(r, instance_id))
  event(r, kind, its ~= '' and (instance_id .. '#' .. its) or instance_id, rest)
end

-- Counts active nodes of the run and of every loop around the node.
local function add_active(r, entry, by)
  r.active = r.active + by
  if not entry.options.loops then return end
  for _, loop in ipairs(entry.options.loops) do
    local l = loop_record(r, loop)
    l.active = l.active + by
    put_loop(r, loop, l)
    r.touched[loop] = true
  end
end

-- Counts what a stop has left undone: a run with anything of it does not end as completed.
local function note_undone(r)
  put(r, 'nx', tonumber(get(r, 'nx') or 0) + 1)
end

-- Makes a node ready, once per iteration. In a stopping run nothing starts: the node is cancelled instead.
local function fire(r, node)
  local n = node_state(r, node)
  if n and n.s ~= 'P' then return end
  local fresh = {attempt = 1, claims = n and n.claims or 0, crashes = 0}
  if r.stop then
    put_node(r, node, fresh, 'X')
    node_event(r, 'x', node)
    note_undone(r)
    return
  end
  local entry = entry_of(r, node)
  make_ready(r, node, fresh, entry.queue)
  add_active(r, entry, 1)
end

-- Skips a node; `mark` (d or f) is what its own edges become.
local function skip(r, node, mark)
  local n = node_state(r, node)
  if n and n.s ~= 'P' then return end
  steps = steps + 1
  local last = n and n.more and n.more ~= '' and '|' .. n.more or '' -- of its last round in a loop
  put(r, 'n:' .. node, 'S|0|' .. (n and n.claims or 0) .. '|0|' .. elapsed(r.cr) .. last)
  node_event(r, 'k', node)
  drop_kept(r, node)
  r.work[#r.work + 1] = {'e', node, mark, 1, 1}
end

-- What an `all` join comes to, from whether it has such edges.
local function settle_all_join(r, target, undecided, taken, failed)
  if undecided then return end
  if failed then return skip(r, target, 'f') end
  if taken then return fire(r, target) end
  return skip(r, target, 'd')
end

local function decide_join(r, edge, mark)
  local target, position, field = edge.target, edge.position, 'j:' .. edge.target
  local undecided, taken, failed -- whether there are such edges
  if is_wide(edge.undecided) then
    local piece = chunk_field(target, position)
    local summary, chunk, left, took, fell = decide_wide(position, edge.undecided, get(r, field), get(r, piece), mark)
    if not summary then return end
    put(r, field, summary)
    put(r, piece, chunk)
    undecided, taken, failed = left > 0, took > 0, fell > 0
  else
    local j = get(r, field) or edge.undecided
    if string.sub(j, position, position) ~= 'u' then return end
    j = string.sub(j, 1, position - 1) .. mark .. string.sub(j, position + 1)
    put(r, field, j)
    undecided, taken, failed = string.find(j, 'u', 1, true), string.find(j, 't', 1, true), string.find(j, 'f', 1, true)
  end
  if edge.join == 'any' then
    if mark == 't' then return fire(r, target) end
    if undecided or taken then return end
    return skip(r, target, failed and 'f' or 'd')
  end
  settle_all_join(r, target, undecided, taken, failed)
end

local function decide(r, edge, mark)
  local kind, loop = edge.kind, edge.loop
  if kind == 'b' then
    if mark == 't' then
      local l = loop_record(r, loop)
      if edge.position > l.back then l.back = edge.position; put_loop(r, loop, l) end
      r.touched[loop] = true
    end
    return
  end
  if kind == 'x' and mark == 'd' then return end -- dead only when the loop has ended
  if edge.enters then
    for _, entered in ipairs(edge.enters) do r.touched[entered] = true end
  end
  if #edge.undecided > 1 then return decide_join(r, edge, mark) end
  if mark == 't' then return fire(r, edge.target) end
  skip(r, edge.target, mark)
end

-- Decides the edges of a node from the `from`-th on. marks: one for each edge, or one for all; all: 1 if the node did not run,
-- then its fallback edge and its batch edge take the same mark.
local function decide_edges(r, node, entry, marks, from, all)
  for i = from, edge_count(entry) do
    if is_spent() then
      table.insert(r.work, 1, {'e', node, marks, i, all}) -- after what follows from those before, so that the list stays short
      return
    end
    steps = steps + 1
    decide(r, edge_of(r, node, entry, i), #marks == 1 and marks or string.sub(marks, i, i))
  end
  if all ~= 1 then return end
  if entry.options.fallback then decide(r, entry.options.fallback, marks == 'f' and 'd' or marks) end
  if entry.options.gather then decide(r, entry.options.gather, marks) end
end

-- What is still to be done in a run, by its kind: each takes the run and the item, and may add further ones. `todo` of the run
-- keeps them, so the layouts stay as they are.
-- @fields edges_item kind node marks from all
local WORK = {
  e = function(r, edges_item)
    local node = edges_item.node
    decide_edges(r, node, entry_of(r, node), edges_item.marks, edges_item.from, edges_item.all)
  end,
}

-- Puts off what this call cannot do any more. `todo` of the run holds it, and counts as a active node, so that the run cannot end;
-- a timer of kind `c` has a sweep continue with it.
local function put_off(r)
  local left = r.todo and cjson.decode(r.todo) or {{}, {}}
  for _, item in ipairs(r.work) do table.insert(left[1], item) end
  for loop in pairs(r.touched) do table.insert(left[2], loop) end
  r.work, r.touched = {}, {}
  if not r.todo then r.active = r.active + 1 end
  r.todo = cjson.encode(left)
  put(r, 'todo', r.todo)
  set_timer(NOW, 'c', r.id)
  notify_workers(r.id, 'goes-on')
end

-- Takes up what earlier calls have put off. Returns what it was.
local function take_up(r)
  local left = r.todo and cjson.decode(r.todo)
  if not left then return nil end
  r.todo, r.active = false, r.active - 1
  put(r, 'todo', false)
  return left
end

local settle_next_loop -- in loops.lua

-- Works off everything that follows from the decisions taken so far in this call, as far as a call may go. Loops are settled
-- when nothing else is left, also of earlier calls: only then it shows what is active in them.
local function settle(r)
  repeat
    while #r.work > 0 do
      if is_spent() then return put_off(r) end
      local edges_item = table.remove(r.work)
      WORK[edges_item.kind](r, edges_item)
    end
    local loops = next(r.touched) ~= nil
    if loops then
      if r.todo or is_spent() then return put_off(r) end
      settle_next_loop(r)
    end
  until not loops and #r.work == 0
end
