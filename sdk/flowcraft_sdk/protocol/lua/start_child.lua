-- Starts child runs for subflow nodes and parks each node until its child ends, each in one commit.
-- The calls that are joined have nothing to do with each other: what one is refused for keeps no other from it.
-- KEYS clock
-- ARGV count words...
--   count: of what calls have in common, see `messages` in script_call.py: there is nothing; words: for each call two numbers, of
--   which the second is how many words follow, and those of CHILD:
-- @fields CHILD run instance_id mode fencing_token worker lease_ms queues blueprint plan max_depth timeout_ms trace draft context...
--   mode: as in reply_with_claim: the worker takes a node that the child begins with
--   plan: the one that is taken for the current one, '' for any; context: key value of each of the child's
--   draft: '' to ask whether the node's child is to take over what another run's child has finished, '-' for a child that does not; or
--     the token under which `store_draft` has stored what it takes over, and `plan` is any that there is. Then context is: how many
--     fields were stored, the nodes whose batches were, one a line, work items, the child that is done again, pairs field value
--   trace: the traceparent of the node's span, or ''
--   timeout_ms: after which the child is stopped, 0 for never; its parent's deadline is its own as well, unless it continues when that stops
-- The child's id is PARENT~NUMBER, which no user can give a run; a number whose id is taken all the same is passed over.
-- RETURNS for each call an error, or {ok, child run id, next claim or nil, and unless that is a direct hand-off, how many nodes are ready in the queues} | {taken, child run id}: so are the next ones | {stale|already} | {no-blueprint} | {other-plan}: that plan is not, or no longer, the current one
--   | {too-deep} | {stopping} (the node is cancelled) | {rerun, VERSION|SINCE|CHILD}: nothing was done, it is to take over from that child of
--   another run, with the plan that it had (VERSION is same) or the current one (current) | {no-draft}: what was stored is gone
--@include base limits write_batch plan joins claim run graph loops memory_usage notify closing run_end claimed_node run_record child_run batch take_over draft

local MOST_TAKEN = 1000 -- ids that are tried

-- @fields drafted_child fields owners work forked_from rest...
local function start_one(CHILD)
  local id, instance_id, blueprint, mode, queues = CHILD.run, CHILD.instance_id, CHILD.blueprint, CHILD.mode, CHILD.queues
  local r, n = held(id, instance_id, CHILD.fencing_token, {'root', 'dep', 'dl', 'kids', 'pr', 'fk:' .. instance_id, 'cl'})
  if not r then
    commit()
    return {n}
  end
  local drafted = CHILD.draft ~= '' and CHILD.draft ~= '-'
  local drafted_child = drafted and part_of(CHILD, CHILD.context)
  local plan = redis.call('HGET', B .. 'blueprints', blueprint)
  if drafted then
    plan = CHILD.plan
    if redis.call('EXISTS', B .. 'plan:' .. plan) == 0 then return {'no-draft'} end
    if not draft_is_whole(CHILD.draft, drafted_child.fields, drafted_child.owners) then return {'no-draft'} end
  end
  if not plan then return {'no-blueprint'} end
  if not drafted and CHILD.plan ~= '' and CHILD.plan ~= plan then return {'other-plan'} end
  local former_child = get(r, 'fk:' .. instance_id)
  if former_child and CHILD.draft == '' then return {'rerun', former_child} end
  local continues = options_of(r, instance_id).abandons
  local deadline, timeout = tonumber(not continues and not closing_of(r) and get(r, 'dl') or 0), tonumber(CHILD.timeout_ms) -- while it closes that has done its work
  local depth = tonumber(get(r, 'dep') or 0) + 1
  if depth > tonumber(CHILD.max_depth) then return {'too-deep'} end
  local number = (tonumber(get(r, 'kids') or 0) or 0) + 1
  local most = number + MOST_TAKEN
  while is_taken(id .. '~' .. number) do
    number = number + 1
    if number > most then return {'taken', id .. '~' .. number - 1} end
  end

  if not leave_claim(r, instance_id, n) then
    commit()
    return {'stopping'}
  end
  if timeout > 0 and (deadline == 0 or NOW + timeout < deadline) then deadline = NOW + timeout end
  local child_id = id .. '~' .. number
  put(r, 'kids', number)
  put(r, 'k:' .. child_id, instance_id)
  put(r, 'w:' .. instance_id, child_id)
  park_node(r, instance_id, n, 'subflow')
  if former_child then put(r, 'fk:' .. instance_id, false) end
  local options = {id = child_id, blueprint = blueprint, plan = plan, token = '', digest = '', tags = '', memo = '',
                   parent = id, parent_node = instance_id, root = get(r, 'root') or id, depth = depth,
                   deadline = deadline, start_at = 0, priority = get(r, 'pr'), trace = CHILD.trace, abandoned = continues and '-', words = CHILD}
  local child
  if drafted then
    options.fork = drafted_child.forked_from
    child = begin_with_draft(options, CHILD.draft, drafted_child.fields, drafted_child.owners, drafted_child.work, part_of(drafted_child, drafted_child.rest))
  else
    child = create_run(options, CHILD.context)
    begin_run(child)
  end
  local handoff = direct_handoff(child, mode, queues)
  if handoff and child.silent then handoff.notified = false end
  commit()
  if mode == '-' then return {'ok', child_id} end
  return reply_with_claim('ok', child_id, handoff, mode, queues, CHILD.worker, tonumber(CHILD.lease_ms))
end

local MOST_BUDGETS = 4 -- of steps, that the calls have together: each has one as if it came alone, until these are used up
local replies, at, taken = {}, ARGV.words, 0
pending = {}
for _ = 1, ARGV.count do at = at + 1 + ARGV[at] end
while ARGV[at] do
  forget_runs()
  local fine, reply = pcall(start_one, part_of(ARGV, at + 2, at + 1 + ARGV[at + 1]))
  replies[#replies + 1] = fine and reply or refused(reply)
  at = at + 2 + ARGV[at + 1]
  taken = taken + steps
  if taken < MOST_BUDGETS * most_steps() then steps = 0 end
end
serve_pending()
return replies
