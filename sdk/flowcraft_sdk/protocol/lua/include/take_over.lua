-- What a run begins with that does another one again: part of its record is that run's, and this is how the rest of it is set
-- going. Each step is a work item, so that a large run takes several calls; protocol/take_over.py makes the list.

-- Notes that a node has begun, though no worker has claimed it in this run.
local function note_begun(r, instance_id)
  node_event(r, 's', instance_id, '1|')
  put(r, 't:' .. instance_id, elapsed(r.cr) .. '|0')
end

-- Makes a node ready that no edge decides now: one that the run begins with, the header of a loop that continues with a later
-- round, an item of a batch, a dynamic node, a node for which the outcome is there that it waited for.
-- @fields ready_item kind instance_id
WORK.f = function(r, ready_item)
  steps = steps + 1
  local instance_id = ready_item.instance_id
  local owner, n = item_of(instance_id), node_state(r, instance_id)
  if n and n.s ~= 'P' then return end
  if get(r, 'r:' .. instance_id) then
    note_begun(r, instance_id)
    make_ready(r, instance_id, {attempt = 1, claims = math.max(1, n and n.claims or 0), crashes = 0}, queue_of(r, instance_id))
    add_active(r, entry_of(r, instance_id), 1)
  elseif owner then
    batches().open_again(r, owner, instance_id)
  else
    fire(r, instance_id)
  end
end

-- Parks a node again whose items or dynamic nodes continue. what: batch | dynamic.
-- @fields parked_item kind instance_id what
WORK.p = function(r, parked_item)
  steps = steps + 1
  local instance_id = parked_item.instance_id
  local n = node_state(r, instance_id)
  if n and n.s ~= 'P' then return end
  note_begun(r, instance_id)
  park_node(r, instance_id, {attempt = 1, claims = math.max(1, n and n.claims or 0), crashes = 0}, parked_item.what)
  add_active(r, entry_of(r, instance_id), 1)
end

-- Opens further items of a batch; ends it if all are done.
-- @fields batch_item kind owner
WORK.b = function(r, batch_item)
  steps = steps + 1
  batches().open(r, batch_item.owner)
end

-- Decides the edges of a node that was taken over, as they were decided. fallback, gather: the mark of that edge, '' for none.
-- @fields decided_item kind node marks fallback gather
WORK.v = function(r, decided_item)
  steps = steps + 1
  local entry = entry_of(r, decided_item.node)
  decide_edges(r, decided_item.node, entry, decided_item.marks, 1)
  if decided_item.fallback ~= '' and entry.options.fallback then decide(r, entry.options.fallback, decided_item.fallback) end
  if decided_item.gather ~= '' and entry.options.gather then decide(r, entry.options.gather, decided_item.gather) end
end

-- Settles a loop that had not ended.
-- @fields settled_item kind loop
WORK.l = function(r, settled_item)
  r.touched[settled_item.loop] = true
end
