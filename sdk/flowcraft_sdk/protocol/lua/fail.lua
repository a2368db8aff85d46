-- Records a failed attempt: to be retried, failed for good, or given up because the run stops.
-- KEYS clock
-- ARGV run inst how fence worker lease_ms queues verdict delay_ms failure input
--   verdict: retry | final | fatal (final, and no fallback) | cancelled (the handler ended because it was told to);
--   failure: JSON ('' for cancelled);
--   input: JSON that a fallback node is to get
-- RETURNS {ok|stale|already, status of the run, next claim or nil, and unless that is an own successor, how many nodes are ready in the queues}
--@include base collecting joins taking run graph loops measuring ending stopping claiming batch failing

local id, inst, how, worker, lease, queues = ARGV[1], ARGV[2], ARGV[3], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local verdict, delay, failure = ARGV[8], tonumber(ARGV[9]), ARGV[10]
local r, n = held(id, inst, tonumber(ARGV[4]))
if not r then
  commit()
  return reply_with_claim(n, '', nil, how, queues, worker, lease)
end

drop(r, 'leases', id .. '|' .. inst)
if get(r, 'r:' .. inst) then put(r, 'r:' .. inst, false) end -- a further attempt waits anew
if verdict == 'retry' and (r.stop or needless(r, inst)) then verdict = 'cancelled' end
if verdict == 'cancelled' then
  if failure ~= '' then put(r, 'f:' .. inst, failure) end
  cancel_node(r, inst, n)
  maybe_finish(r)
elseif verdict == 'retry' then
  put(r, 'f:' .. inst, failure)
  n.attempt = n.attempt + 1
  node_event(r, 'r', inst, n.attempt .. '|' .. delay .. '|' .. brief(failure))
  if delay > 0 then
    put_node(r, inst, n, 'T', entry(r, inst)[5])
    redis.call('ZADD', B .. 'timers', NOW + delay, 'T|' .. id .. '|' .. inst)
  else
    put_node(r, inst, n, 'R', entry(r, inst)[5])
    r.fired[#r.fired + 1] = {inst = inst, queue = entry(r, inst)[5]}
  end
else
  local owner, index = string.match(inst, '^(.+)%[(%d+)%]$')
  if owner and entry(r, inst)[6].collect then
    node_event(r, 'f', inst, n.attempt .. '|' .. brief(failure))
    add_live(r, entry(r, inst), -1)
    batches().done(r, owner, index, '{"error":' .. failure .. '}')
    maybe_finish(r)
  else
    fail_node(r, inst, n, failure, ARGV[11], verdict == 'fatal')
  end
end

local own = own_successor(r, how, queues)
commit()
return reply_with_claim('ok', r.st, own, how, queues, worker, lease)
