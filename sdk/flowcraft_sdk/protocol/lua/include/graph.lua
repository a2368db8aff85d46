-- What follows a decision: edges, joins, skips, loops. A plan entry (JSON in `plan:HASH`, field `n:<node>`) is
-- {join, ins, outs, reads, queue, opts}; an edge in `outs` is {target, position, j0, join, queue, kind, loop, enters}, both
-- without what is empty at their end:
--   queue: the target's; position: which of the target's incoming edges it is; j0: the target's undecided join string, one char an edge;
--   opts: loops, header, fallback, fallbackOf, gather, inputs, collect, owner (of a dynamic node)
--   kind '' plain, 'b' back to the header of `loop`, 'x' leaves `loop`; enters: the loops that the edge leads into.
-- Marks: u undecided, t taken, d dead, f failed (the source failed and the run goes on), b belongs to another iteration.

local entries, NO_OPTIONS = {}, {}

local function field_of_plan(plan, field)
  local key = plan .. field
  local e = entries[key]
  if e == nil then
    local text = redis.call('HGET', B .. 'plan:' .. plan, field)
    e = text and cjson.decode(text) or false
    if e and e[5] and not e[6] then e[6] = NO_OPTIONS end
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
local function entry(r, inst)
  local node = item_of(inst) or inst
  local e = plan_field(r, 'n:' .. node)
  if e then return e end
  local key = '|' .. r.id .. '|' .. node -- no plan begins so
  local dynamic = not entries[key] and get(r, 'y:' .. node)
  entries[key] = entries[key] or (dynamic and cjson.decode(dynamic)) or LOST
  return entries[key]
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
local function node_event(r, kind, inst, rest)
  if r.silent then return end
  local its = iterations(r, entry(r, inst))
  event(r, kind, its ~= '' and (inst .. '#' .. its) or inst, rest)
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
    put(r, 'nx', tonumber(get(r, 'nx') or 0) + 1)
    return
  end
  local e = entry(r, node)
  put_node(r, node, fresh, 'R', e[5])
  add_live(r, e, 1)
  r.fired[#r.fired + 1] = {inst = node, queue = e[5], n = fresh}
end

-- Skips a node; `mark` (d or f) is what its own edges become.
local function skip(r, node, mark)
  local n = node_state(r, node)
  if n and n.s ~= 'P' then return end
  put(r, 'n:' .. node, 'S|0|' .. (n and n.claims or 0) .. '|0|' .. (NOW - r.cr))
  node_event(r, 'k', node)
  r.work[#r.work + 1] = {node, mark}
end

local function decide_join(r, edge, mark)
  local target, position, field = edge[1], edge[2], 'j:' .. edge[1]
  local j = get(r, field) or edge[3]
  if string.sub(j, position, position) ~= 'u' then return end
  j = string.sub(j, 1, position - 1) .. mark .. string.sub(j, position + 1)
  put(r, field, j)
  if edge[4] == 'any' then
    if mark == 't' then return fire(r, target) end
    if string.find(j, '[ut]') then return end
    return skip(r, target, string.find(j, 'f', 1, true) and 'f' or 'd')
  end
  if string.find(j, 'u', 1, true) then return end
  if string.find(j, 'f', 1, true) then return skip(r, target, 'f') end
  if string.find(j, 't', 1, true) then return fire(r, target) end
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

-- All edges of a node that did not run take the same mark; so do its fallback edge and its batch edge.
local function decide_all(r, node, mark)
  local e = entry(r, node)
  for _, edge in ipairs(e[3]) do decide(r, edge, mark) end
  if e[6].fallback then decide(r, e[6].fallback, mark == 'f' and 'd' or mark) end
  if e[6].gather then decide(r, e[6].gather, mark) end
end

local settle_next_loop -- in loops.lua

-- Works off everything that follows from the decisions taken so far in this call.
local function settle(r)
  repeat
    while #r.work > 0 do
      local item = table.remove(r.work)
      decide_all(r, item[1], item[2])
    end
    local loops = next(r.touched) ~= nil
    if loops then settle_next_loop(r) end
  until not loops and #r.work == 0
end
