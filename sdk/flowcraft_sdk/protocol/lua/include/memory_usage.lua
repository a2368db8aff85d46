-- What is done when a run has ended, after all else of it has been written: its memory is measured.

-- What retention goes by: when a root run ended, and about how many bytes it takes (measured once, over
-- 100 fields at most; its places in the indexes take some 300). Returns the bytes of its record, 0 if they are not known.
-- batches: owners of batches, one a line, or nothing; child: whether the run is another's.
local function note_size(id, st, batches, child)
  local k, bytes = B .. 'run:' .. id, 300
  local function add(key)
    local reply = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', 100)
    if type(reply) ~= 'number' then return 0 end -- absent, or not allowed here: then there is no byte budget
    bytes = bytes + reply
    return reply
  end
  local record = add(k)
  add(B .. 'events:' .. id)
  add(B .. 'logs:' .. id)
  for batch in string.gmatch(batches or '', '[^\n]+') do add(batch_key(id, batch)) end
  redis.call('HSET', k, 'by', bytes)
  write_beside('HINCRBY', 'stats', 'bytes', bytes)
  if not child then write_beside('ZADD', 'ended:' .. (st == 'timed_out' and 'failed' or st), NOW, id) end
  return record
end
