-- What follows a decision: edges, joins, skips, loops. A plan entry (JSON in `plan:HASH`, field `n:<node>`) is
-- {join, ins, outs, reads, queue, opts}; an edge in `outs` is {target, position, j0, join, queue, kind, loop, enters}, both
-- without what is empty at their end. Of a node with more than 100 edges `outs` is how many there are, and they are in pieces
-- of 100, fields `e:<piece>:<node>`; so is `starts` of `meta`, the nodes that a run begins with, in fields `s:<piece>`.
--   queue: the target's; position: which of the target's incoming edges it is; j0: the target's undecided join, see joins.lua;
--   opts: loops, header, fallback, fallbackOf, gather, inputs, collect, owner (of a dynamic node), fast (1: the fast path may take it)
--   kind '' plain, 'b' back to the header of `loop`, 'x' leaves `loop`; enters: the loops that the edge leads into.
-- Marks: u undecided, t taken, d dead, f failed (the source failed and the run goes on), b belongs to another iteration.

local entries, NO_OPTIONS = {}, {}

local function field_of_plan(plan, field)
  local key = plan .. field
  local e = entries[key]
  if e == nil then
    local text = redis.call('HGET', B .. 'plan:' .. plan, field)
    e = text and cjson.decode(text) or false
    if e and string.sub(field, 1, 2) == 'n:' and not e[6] then e[6] = NO_OPTIONS end
    entries[key] = e
  end
  return e
end

local function plan_field(r, field)
  return field_of_plan(r.plan, field)
end

-- Whether the plan of a run is no longer in Redis. Such a run cannot go on; the sweeper fails it.
local function plan_gone(r)
  return redis.call('EXISTS', B .. 'plan:' .. r.plan) == 0
end

-- What stands for an entry when the plan is gone: a node without edges.
local LOST = {'all', {}, {}, {}, 'default', NO_OPTIONS}

-- The plan entry of an instance; items of a batch share the entry of their node, and that of a dynamic node is in its run.
local function entry(r, instance_id)
  local node = item_of(instance_id) or instance_id
  local e = plan_field(r, 'n:' .. node)
  if e then return e end
  local key = '|' .. r.id .. '|' .. node -- no plan begins so
  local dynamic = not entries[key] and get(r, 'y:' .. node)
  entries[key] = entries[key] or (dynamic and cjson.decode(dynamic)) or LOST
  return entries[key]
end

local PIECE = 100

local function edge_count(e)
  return type(e[3]) == 'table' and #e[3] or e[3]
end

local function edge_of(r, node, e, i)
  if type(e[3]) == 'table' then return e[3][i] end
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
  local iteration, live, back, closed = string.match(get(r, 'l:' .. loop) or '0|0|0|', '^(%d+)|(%-?%d+)|(%d+)|(.*)$')
  return {iteration = tonumber(iteration), live = tonumber(live), back = tonumber(back), closed = closed}
end

local function put_loop(r, loop, l)
  put(r, 'l:' .. loop, l.iteration .. '|' .. l.live .. '|' .. l.back .. '|' .. l.closed)
end

-- Iterations of the loops around a node, `2` or `1.4`, outermost first.
local function iterations(r, e)
  if not e[6].loops then return '' end
  local list = {}
  for _, loop in ipairs(e[6].loops) do list[#list + 1] = loop_record(r, loop).iteration end
  return table.concat(list, '.')
end

-- Notes something about a node: inside of loops along with the iterations, as `node#2`.
local function node_event(r, kind, instance_id, rest)
  if r.silent then return end
  local its = iterations(r, entry(r, instance_id))
  event(r, kind, its ~= '' and (instance_id .. '#' .. its) or instance_id, rest)
end

-- Counts live nodes of the run and of every loop around the node.
local function add_live(r, e, by)
  r.live = r.live + by
  if not e[6].loops then return end
  for _, loop in ipairs(e[6].loops) do
    local l = loop_record(r, loop)
    l.live = l.live + by
    put_loop(r, loop, l)
    r.touched[loop] = true
  end
end

-- Makes a node ready, once per iteration. In a stopping run nothing starts: the node is cancelled instead.
local function fire(r, node)
  local n = node_state(r, node)
  if n and n.s ~= 'P' then return end
  local fresh = {attempt = 1, claims = n and n.claims or 0, crashes = 0}
  if r.stop then
    put_node(r, node, fresh, 'X')
    node_event(r, 'x', node)
    put(r, 'nx', tonumber(get(r, 'nx') or 0) + 1)
    return
  end
  local e = entry(r, node)
  put_node(r, node, fresh, 'R', e[5])
  add_live(r, e, 1)
  r.fired[#r.fired + 1] = {instance_id = node, queue = e[5], n = fresh}
end

-- Skips a node; `mark` (d or f) is what its own edges become.
local function skip(r, node, mark)
  local n = node_state(r, node)
  if n and n.s ~= 'P' then return end
  steps = steps + 1
  local last = n and n.more and n.more ~= '' and '|' .. n.more or '' -- of its last round in a loop
  put(r, 'n:' .. node, 'S|0|' .. (n and n.claims or 0) .. '|0|' .. elapsed(r.cr) .. last)
  node_event(r, 'k', node)
  r.work[#r.work + 1] = {'e', node, mark, 1, 1}
end

local function decide_join(r, edge, mark)
  local target, position, field = edge[1], edge[2], 'j:' .. edge[1]
  local undecided, taken, failed -- whether there are such edges
  if is_wide(edge[3]) then
    local piece = chunk_field(target, position)
    local summary, chunk, left, took, fell = decide_wide(position, edge[3], get(r, field), get(r, piece), mark)
    if not summary then return end
    put(r, field, summary)
    put(r, piece, chunk)
    undecided, taken, failed = left > 0, took > 0, fell > 0
  else
    local j = get(r, field) or edge[3]
    if string.sub(j, position, position) ~= 'u' then return end
    j = string.sub(j, 1, position - 1) .. mark .. string.sub(j, position + 1)
    put(r, field, j)
    undecided, taken, failed = string.find(j, 'u', 1, true), string.find(j, 't', 1, true), string.find(j, 'f', 1, true)
  end
  if edge[4] == 'any' then
    if mark == 't' then return fire(r, target) end
    if undecided or taken then return end
    return skip(r, target, failed and 'f' or 'd')
  end
  if undecided then return end
  if failed then return skip(r, target, 'f') end
  if taken then return fire(r, target) end
  return skip(r, target, 'd')
end

local function decide(r, edge, mark)
  local kind, loop = edge[6], edge[7]
  if kind == 'b' then
    if mark == 't' then
      local l = loop_record(r, loop)
      if edge[2] > l.back then l.back = edge[2]; put_loop(r, loop, l) end
      r.touched[loop] = true
    end
    return
  end
  if kind == 'x' and mark == 'd' then return end -- dead only when the loop is over
  if edge[8] then
    for _, entered in ipairs(edge[8]) do r.touched[entered] = true end
  end
  if #edge[3] > 1 then return decide_join(r, edge, mark) end
  if mark == 't' then return fire(r, edge[1]) end
  skip(r, edge[1], mark)
end

-- Decides the edges of a node from the `from`-th on. marks: one for each edge, or one for all; all: 1 if the node did not run,
-- then its fallback edge and its batch edge take the same mark.
local function decide_edges(r, node, e, marks, from, all)
  for i = from, edge_count(e) do
    if is_spent() then
      table.insert(r.work, 1, {'e', node, marks, i, all}) -- after what follows from those before, so that the list stays short
      return
    end
    steps = steps + 1
    decide(r, edge_of(r, node, e, i), #marks == 1 and marks or string.sub(marks, i, i))
  end
  if all ~= 1 then return end
  if e[6].fallback then decide(r, e[6].fallback, marks == 'f' and 'd' or marks) end
  if e[6].gather then decide(r, e[6].gather, marks) end
end

-- What is still to be done in a run, by its first element: each takes the run and the item, and may add further ones.
local WORK = {
  e = function(r, item) decide_edges(r, item[2], entry(r, item[2]), item[3], item[4], item[5]) end,
}

-- Puts off what this call cannot do any more. `todo` of the run holds it, and counts as a live node, so that the run cannot end;
-- a timer of kind `c` has a sweep go on with it.
local function put_off(r)
  local left = r.todo and cjson.decode(r.todo) or {{}, {}}
  for _, item in ipairs(r.work) do table.insert(left[1], item) end
  for loop in pairs(r.touched) do table.insert(left[2], loop) end
  r.work, r.touched = {}, {}
  if not r.todo then r.live = r.live + 1 end
  r.todo = cjson.encode(left)
  put(r, 'todo', r.todo)
  redis.call('ZADD', B .. 'timers', NOW, 'c|' .. r.id .. '|')
  redis.call('PUBLISH', B .. 'control', r.id .. '|goes-on')
end

-- Takes up what earlier calls have put off. Returns what it was.
local function take_up(r)
  local left = r.todo and cjson.decode(r.todo)
  if not left then return nil end
  r.todo, r.live = false, r.live - 1
  put(r, 'todo', false)
  return left
end

local settle_next_loop -- in loops.lua

-- Works off everything that follows from the decisions taken so far in this call, as far as a call may go. Loops are settled
-- when nothing else is left, also of earlier calls: only then it shows what is live in them.
local function settle(r)
  repeat
    while #r.work > 0 do
      if is_spent() then return put_off(r) end
      local item = table.remove(r.work)
      WORK[item[1]](r, item)
    end
    local loops = next(r.touched) ~= nil
    if loops then
      if r.todo or is_spent() then return put_off(r) end
      settle_next_loop(r)
    end
  until not loops and #r.work == 0
end
