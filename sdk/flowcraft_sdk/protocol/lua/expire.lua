-- Retention: removes ended runs of one status that ended before a time, each with all its keys and index entries.
-- KEYS clock
-- ARGV status age_ms limit offset (candidates to pass over: old runs that ended lately)
-- RETURNS {removed, kept}
--@include base run

local status, before, limit = ARGV[1], NOW - tonumber(ARGV[2]), tonumber(ARGV[3])
local index = B .. 'idx:st:' .. status
local removed, kept = 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', before, 'LIMIT', tonumber(ARGV[4]), limit)) do
  local k = B .. 'run:' .. id
  local v = redis.call('HMGET', k, 'en', 'bp', 'tags', 'batches')
  if v[1] and tonumber(v[1]) > before then
    kept = kept + 1
  else
    for batch in string.gmatch(v[4] or '', '[^\n]+') do redis.call('UNLINK', k .. ':batch:' .. batch) end
    redis.call('UNLINK', k, k .. ':events')
    redis.call('ZREM', B .. 'idx:all', id)
    redis.call('ZREM', index, id)
    if v[2] then redis.call('ZREM', B .. 'idx:bp:' .. v[2], id) end
    for _, tag in ipairs(v[3] and cjson.decode(v[3]) or {}) do redis.call('ZREM', B .. 'idx:tag:' .. tag, id) end
    removed = removed + 1
  end
end
return {removed, kept}
