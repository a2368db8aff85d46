-- Loops: what happens when nothing in one is live any more.

-- Settles the deepest of the loops that this call touched. Its functions are made here, for most calls meet no loop.
settle_next_loop = function(r)
  -- The next iteration of a loop (mask chars: k keep the decision, an edge from outside; a the same for an `any` join,
  -- where a decision counts for one iteration only; u and b as above): its nodes, joins and inner loops start over, then its header fires.
  local function iterate(r, loop, l)
    local meta = plan_field(r, 'l:' .. loop)
    for _, node in ipairs(meta.nodes) do
      local n = node_state(r, node)
      if n then put(r, 'n:' .. node, 'P|0|' .. n.claims .. '|0|0') end
    end
    for node, mask in pairs(meta.joins) do
      local j, fresh = get(r, 'j:' .. node), {}
      if j then
        for i = 1, #mask do
          local m, was = string.sub(mask, i, i), string.sub(j, i, i)
          if m == 'k' or (m == 'a' and was == 'u') then fresh[i] = was else fresh[i] = m == 'a' and 'b' or m end
        end
        put(r, 'j:' .. node, table.concat(fresh))
      end
    end
    for _, inner in ipairs(meta.inner) do
      put(r, 'l:' .. inner, false)
      put(r, 'i:' .. inner, false)
    end
    for _, field in ipairs(meta.clear) do put(r, field, false) end
    put(r, 'i:' .. loop, l.back)
    l.iteration, l.back = l.iteration + 1, 0
    put_loop(r, loop, l)
    fire(r, loop)
  end

  -- A loop that has nothing live ends, and its untaken exits are dead; unless a back edge was taken or a way in is undecided.
  local function settle_loop(r, loop)
    local l = loop_record(r, loop)
    if l.live > 0 or l.closed ~= '' then return end
    if l.back > 0 and not r.stop then return iterate(r, loop, l) end
    local meta = plan_field(r, 'l:' .. loop)
    for _, way_in in ipairs(meta.entries) do
      local j = get(r, 'j:' .. way_in[1])
      if not j or string.sub(j, way_in[2], way_in[2]) == 'u' then return end
    end
    l.closed = 'c'
    put_loop(r, loop, l)
    for _, edge in ipairs(meta.exits) do
      decide(r, {edge[1], edge[2], edge[3], edge[4], edge[5], '', '', edge[8]}, 'd')
    end
  end

  -- The touched loop that lies deepest: an outer loop is over only when its inner ones are settled.
  local function deepest(r)
    local found, depth
    for loop in pairs(r.touched) do
      local d = plan_field(r, 'l:' .. loop).depth
      if not found or d > depth then found, depth = loop, d end
    end
    return found
  end

  local loop = deepest(r)
  r.touched[loop] = nil
  settle_loop(r, loop)
end
