-- A new run that the scripts go on with: one that begins later, or in a loop, or that is a child.

-- options and pairs_ as in recording.lua. The caller has made sure that the id is not taken.
local function create_run(options, pairs_)
  local st = options.start_at > NOW and 'scheduled' or 'queued'
  write_record(B .. 'run:' .. options.id, record_of(options, st, pairs_, 0))
  add_to_indexes(options, st)
  local r = load_run(options.id)
  if st == 'scheduled' then
    redis.call('ZADD', B .. 'timers', options.start_at, 'b|' .. options.id .. '|')
    event(r, 'B', '', 'scheduled')
  end
  return r
end

local function begin_run(r)
  event(r, 'B', '')
  for _, node in ipairs(plan_field(r, 'meta').starts) do fire(r, node) end
  maybe_finish(r)
end
