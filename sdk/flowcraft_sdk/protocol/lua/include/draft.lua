-- What `store_draft` has stored of a run that is to do another one again.

-- Whether it is all there: so many fields of the record, and the batches of these nodes, one a line.
local function draft_is_whole(token, fields, owners)
  local draft = B .. 'draft:' .. token
  if redis.call('HLEN', draft) ~= tonumber(fields) then return false end
  for owner in string.gmatch(owners, '[^\n]+') do
    if redis.call('EXISTS', draft .. '|' .. owner) == 0 then return false end
  end
  return true
end

local function keep_draft(from, to)
  redis.call('RENAME', from, to)
  redis.call('PERSIST', to)
end

-- Begins a run with it. options: as in run_record.lua; rest: further fields of the record, as field, value, ...; work: see take_over.lua.
local function begin_with_draft(options, token, fields, owners, work, rest)
  local draft, k = B .. 'draft:' .. token, B .. 'run:' .. options.id
  if fields ~= '0' then keep_draft(draft, k) end
  for owner in string.gmatch(owners, '[^\n]+') do keep_draft(draft .. '|' .. owner, batch_key(options.id, owner)) end
  if #rest > 0 then write_fields_of(k, rest) end
  local r = create_run(options, #ARGV + 1, true)
  if plan_field(r, 'meta').closes then put(r, 'cl', '-') end
  if options.place then
    put(r, 'pw', work) -- until it has its place
    pass_on_place('unplaced', r.id, r.cr)
    return r
  end
  event(r, 'B', '')
  r.work = cjson.decode(work)
  maybe_finish(r)
  return r
end
