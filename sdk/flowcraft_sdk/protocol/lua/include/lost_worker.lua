-- What is done with a node whose worker was lost: one bad node must not fail those that ran beside it.
-- A node that was alone in its process is to blame, and its crashes are counted. One that ran beside others is a suspect: the run
-- field `q:<node>` holds its points, 1 for each loss, 2 if it is not known what was executed when the process died, and as
-- many as it takes to be run alone if the node was. From 3 points on suspects are run apart, in groups that get smaller. So a
-- first loss without evidence, such as that of a killed container, delays nothing.

local apart, group_of, lose_node
local alone_elsewhere = {} -- with several partitions: workers that were asked about in all others, and held nothing there
do -- a script has 200 locals at most
  local APART, SMALLER, ALONE = 3, 5, 7

  -- The queue of suspects of a queue. No user can write such a name.
  apart = function(queue)
    return queue .. '!'
  end

  -- How many suspects with so many points may be run together.
  group_of = function(points)
    return points >= ALONE and 1 or points >= SMALLER and 6 or 32
  end

  local siblings_held = {} -- by worker: whether it held several nodes when it was lost

  local function held_siblings(worker, member)
    if siblings_held[worker] ~= nil then return siblings_held[worker] end
    -- With several partitions it is not seen here what it held in the others: the caller has asked them.
    local found = worker == '' or (WAKE and not alone_elsewhere[worker]) or holds(worker, member)
    if found and worker ~= '' then redis.call('SET', B .. 'lost:' .. worker, 1, 'EX', 3600) end
    siblings_held[worker] = found
    return found
  end

  -- A node was given up with its worker. executed: whether it was executed when the process died, nil if that is not known.
  lose_node = function(r, instance_id, n, max_crashes, executed)
    local worker, group = string.match(n.more, '^([^!]*)!?(%d*)$')
    local alone = group == '1' or (group == '' and not held_siblings(worker, r.id .. '|' .. instance_id))
    local points = tonumber(get(r, 'q:' .. instance_id) or 0) + (executed == nil and 2 or 1)
    if executed or group == '1' then points = math.max(points, ALONE) end
    if alone then n.crashes = n.crashes + 1 end
    node_event(r, 't', instance_id, n.crashes .. '|' .. worker)
    if r.stop and not records_child(r, instance_id) then
      cancel_node(r, instance_id, n)
      return maybe_finish(r)
    end
    if alone and n.crashes >= max_crashes then
      write_beside('ZADD', 'dead', NOW, r.id .. '|' .. instance_id)
      put(r, 'dead', (get(r, 'dead') or '') .. instance_id .. '\n')
      local failure = cjson.encode({type = 'WorkerLost', node = instance_id, attempt = n.attempt, retryable = false, at = NOW,
        message = 'the worker died or stalled ' .. n.crashes .. ' times while running this node alone (executor.maxCrashes)'})
      return fail_node(r, instance_id, n, failure, false)
    end
    local queue = queue_of(r, instance_id)
    if points >= APART then queue = apart((limit_in(queue))) end -- few at a time as it is: no limit counts
    put(r, 'q:' .. instance_id, points)
    make_ready(r, instance_id, n, queue)
  end
end
