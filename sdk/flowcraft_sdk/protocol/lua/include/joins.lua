-- Joins. A narrow one keeps its decisions as a string in `j:<node>`, one mark an edge. One of more than 64 edges keeps them in
-- chunks of 64, `J:<chunk>:<node>`, and in `j:<node>` what is asked of them all: `#undecided|taken|failed|last|transform`, where
-- `last` is the position of the last taken edge and `transform` that of the last taken one with a transform. So a completion
-- costs the same however wide the join is. In the plan the undecided join of a wide one is `#undecided`, with `b` behind it if
-- edges of the join lead back to a loop's header, and `x` if the edge has a transform.

local CHUNK = 64
local FRESH_CHUNK = string.rep('u', CHUNK)

local function is_wide(join)
  return string.byte(join) == 35
end

local function chunk_field(target, position)
  return 'J:' .. math.floor((position - 1) / CHUNK) .. ':' .. target
end

-- Decides an edge of a wide join. summary and chunk: the two fields as they are, false or nil if absent. Returns both as they are
-- to be; nil if the edge is decided already; and how many are undecided, taken, failed.
local function decide_wide(position, undecided_join, summary, chunk, mark)
  local at = (position - 1) % CHUNK + 1
  chunk = chunk or FRESH_CHUNK
  if string.byte(chunk, at) ~= 117 then return nil end
  local undecided, taken, failed, last, transform = string.match(summary or '', '^#(%d+)|(%d+)|(%d+)|(%d+)|(%d+)$')
  if not undecided then
    undecided, taken, failed, last, transform = string.match(undecided_join, '^#(%d+)'), 0, 0, 0, 0
  end
  undecided, taken, failed = undecided - 1, taken + (mark == 't' and 1 or 0), failed + (mark == 'f' and 1 or 0)
  if mark == 't' then
    if position > tonumber(last) then last = position end
    if string.byte(undecided_join, -1) == 120 and position > tonumber(transform) then transform = position end
  end
  summary = '#' .. undecided .. '|' .. taken .. '|' .. failed .. '|' .. last .. '|' .. transform
  return summary, string.sub(chunk, 1, at - 1) .. mark .. string.sub(chunk, at + 1), undecided, taken, failed
end

-- Declared inputs are replaced by a transform's value, by nothing else that an edge carries.
local function transforms(field)
  return string.sub(field, 1, 2) == 'x:' and string.sub(field, -9) ~= '>fallback'
end
