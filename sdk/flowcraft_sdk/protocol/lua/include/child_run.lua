-- A new run that the call works on: one that begins later, or in a loop, or that is a child.

-- options and pairs_ as in run_record.lua. The caller has made sure that the id is not taken. drafted: part of its record is there.
local function create_run(options, pairs_, drafted)
  local st = options.start_at > NOW and 'scheduled' or 'queued'
  local record, written = record_of(options, st, pairs_, 0), {}
  write_fields_of(B .. 'run:' .. options.id, record)
  add_to_indexes(options, st)
  for i = 1, drafted and 0 or #record, 2 do written[record[i]] = record[i + 1] end
  local r = load_run(options.id, nil, not drafted and written or nil)
  if st == 'scheduled' then
    set_timer(options.start_at, 'b', options.id)
    event(r, 'B', '', 'scheduled')
  end
  return r
end

-- Makes the nodes that a run begins with ready, from the second element's on.
-- @fields starts_item kind from
WORK.s = function(r, starts_item)
  local starts = plan_field(r, 'meta').starts
  for i = starts_item.from, type(starts) == 'table' and #starts or starts do
    if is_spent() then
      r.work[#r.work + 1] = {'s', i}
      return
    end
    steps = steps + 1
    if type(starts) == 'table' then
      fire(r, starts[i])
    else
      fire(r, plan_field(r, 's:' .. math.floor((i - 1) / PIECE))[(i - 1) % PIECE + 1])
    end
  end
end

local function begin_run(r)
  event(r, 'B', '')
  if plan_field(r, 'meta').closes then put(r, 'cl', '-') end
  WORK.s(r, {'s', 1})
  maybe_finish(r)
end
