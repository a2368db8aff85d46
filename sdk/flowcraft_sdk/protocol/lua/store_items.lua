-- Stores items of a batch beside the run, before the owner's commit opens them. May be called several times in a row.
-- KEYS clock
-- ARGV run instance_id fencing_token total limit first items...
--   first: index of the first item of this call; 0 begins anew
-- RETURNS {ok} | {stale|already}
--@include base limits run plan joins graph loops memory_usage notify closing run_end claimed_node batch

local id, instance_id = ARGV.run, ARGV.instance_id
local r, n = held(id, instance_id, ARGV.fencing_token)
if not r then
  commit()
  return {n}
end
local key, first = batch_key(id, instance_id), tonumber(ARGV.first)
if first == 0 then
  redis.call('DEL', key)
  batches().put(r, instance_id, {total = tonumber(ARGV.total), opened = 0, done = 0, limit = tonumber(ARGV.limit)})
  local batches = get(r, 'batches') or ''
  if not string.find('\n' .. batches .. '\n', '\n' .. instance_id .. '\n', 1, true) then
    put(r, 'batches', batches == '' and instance_id or batches .. '\n' .. instance_id)
  end
end
for i = ARGV.items, #ARGV do redis.call('HSET', key, 'i:' .. (first + i - ARGV.items), ARGV[i]) end
commit()
return {'ok'}
