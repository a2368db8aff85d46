-- Sums of model calls, and budgets. A sum is `calls|input tokens|cached ones of these|output tokens|10^-9 USD|calls without a price|ms`, and
-- `|calls that the cache has answered` if there are any.
-- A run's record has its own in `us`, those of its nodes in `us:<node>`: the calls of its child runs are in them, too. `usage:<day>`
-- has those of a day (UTC, days since 1970) in this partition: `*` all, `b|<blueprint>`, `t|<tag>`, `m|<model>`; what finds no place, `~`.
-- `usage:total` has those of all time: `*`, `b|<blueprint>`, `m|<model>`, and in `#b|` and `#m|` how many names of a kind there are.
-- A budget is `10^-9 USD|tokens`, each of them empty for none: of a run in `bg`, of a plan in `budget` and `budget:<node>`.

local DEEPEST = 1000 -- runs above each other

-- A sum or a budget as numbers; nil where a part is empty.
local function numbers_of(text)
  local numbers, i = {}, 0
  for part in string.gmatch((text or '') .. '|', '([^|]*)|') do
    i = i + 1
    numbers[i] = tonumber(part)
  end
  return numbers
end

local function usage_of_day()
  return B .. 'usage:' .. string.format('%d', math.floor(NOW / 86400000))
end

-- Tags of a run's record.
local function tags_of(text)
  local readable, tags = pcall(cjson.decode, text or '[]')
  return readable and type(tags) == 'table' and tags or {}
end

-- Calls `each(run, k, node, v)` for a run and those above it; v: its `fields` as they are read, `node` the one that the calls below are of.
-- `v.apart`: a run below it was abandoned: its calls are none of this run's, but the tags hold for them as before.
local function climb(id, node, fields, each)
  local apart = false
  for _ = 1, DEEPEST do
    local k, wanted = B .. 'run:' .. id, {'st', 'par', 'pn', 'us:' .. node, 'ab'}
    for _, field in ipairs(fields) do wanted[#wanted + 1] = field end
    local v = redis.pcall('HMGET', k, unpack(wanted)) -- 10 at most
    if v['err'] or not v[1] then return end
    each(id, k, node, {st = v[1], node_sum = v[4], apart = apart, unpack(v, 6)}) -- 10 at most
    local parent, above = v[2], v[3]
    if parent and not above and v[5] and v[5] ~= '-' then
      above, apart = redis.pcall('HGET', B .. 'run:' .. parent, 'k:' .. id), true -- empty: no node had started it
      if type(above) == 'table' then return end
    end
    if not parent or not above or above == '' then return end
    id, node = parent, item_of(above) or above
  end
end
