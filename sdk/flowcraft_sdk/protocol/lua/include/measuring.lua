-- What retention goes by: when a run ended that is nobody's child, and about how many bytes it takes (measured once, over
-- 100 fields at most; its places in the indexes take some 300). Comes after all else of the run has been written.
-- batches: owners of batches, one a line, or nothing; child: whether the run is another's.
local function note_size(id, st, batches, child)
  local k, bytes = B .. 'run:' .. id, 300
  local function add(key)
    local reply = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', 100)
    if type(reply) == 'number' then bytes = bytes + reply end -- absent, or not allowed here: then there is no byte budget
  end
  add(k)
  add(k .. ':events')
  for batch in string.gmatch(batches or '', '[^\n]+') do add(k .. ':batch:' .. batch) end
  redis.call('HSET', k, 'by', bytes)
  redis.call('HINCRBY', B .. 'stats', 'bytes', bytes)
  if not child then redis.call('ZADD', B .. 'ended:' .. (st == 'timed_out' and 'failed' or st), NOW, id) end
end
