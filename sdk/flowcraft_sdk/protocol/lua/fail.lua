-- Records a failed attempt: to be retried, failed for good, or given up because the run stops.
-- KEYS clock
-- ARGV run instance_id mode fencing_token worker lease_ms queues verdict delay_ms failure input
--   verdict: retry | final | fatal (final, and no fallback) | cancelled (the handler ended because its run stops);
--   failure: JSON ('' for cancelled);
--   input: JSON that a fallback node is to get
-- RETURNS {ok|stale|already, status of the run, next claim or nil, and unless that is a direct hand-off, how many nodes are ready in the queues}
--@include base limits write_batch plan joins claim run graph loops memory_usage notify closing run_end run_stop claimed_node batch node_failure

local id, instance_id, mode, worker, lease, queues = ARGV.run, ARGV.instance_id, ARGV.mode, ARGV.worker, tonumber(ARGV.lease_ms), ARGV.queues
local verdict, delay, failure = ARGV.verdict, tonumber(ARGV.delay_ms), ARGV.failure
local r, n = held(id, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return reply_with_claim(n, '', nil, mode, queues, worker, lease)
end

drop_lease(r, instance_id)
local ends = verdict == 'retry' and (r.stop or needless(r, instance_id)) -- no further attempt begins
local owed = (ends or verdict == 'cancelled') and records_child(r, instance_id)
if not owed and get(r, 'r:' .. instance_id) then put(r, 'r:' .. instance_id, false) end -- a further attempt waits anew
if ends and not owed then verdict = 'cancelled' end
if owed and verdict == 'cancelled' then -- a worker has heard of the stop, which is none for this node
  requeue(r, instance_id, n, 200)
elseif verdict == 'cancelled' then
  if failure ~= '' then put(r, 'f:' .. instance_id, failure) end
  cancel_node(r, instance_id, n)
  maybe_finish(r)
elseif verdict == 'retry' then
  put(r, 'f:' .. instance_id, failure)
  n.attempt = n.attempt + 1
  node_event(r, 'r', instance_id, n.attempt .. '|' .. delay .. '|' .. brief(failure))
  requeue(r, instance_id, n, delay)
else
  local owner, index = string.match(instance_id, '^(.+)%[(%d+)%]$')
  if owner and options_of(r, instance_id).collect then
    node_event(r, 'f', instance_id, n.attempt .. '|' .. brief(failure))
    add_active(r, entry_of(r, instance_id), -1)
    batches().done(r, owner, index, '{"error":' .. failure .. '}')
    maybe_finish(r)
  else
    fail_node(r, instance_id, n, failure, ARGV.input, verdict == 'fatal')
  end
end

local handoff = direct_handoff(r, mode, queues)
commit()
return reply_with_claim('ok', r.st, handoff, mode, queues, worker, lease)
