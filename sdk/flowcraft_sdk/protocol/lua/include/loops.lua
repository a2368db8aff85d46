-- Loops: what happens when nothing in one is active any more.

-- Settles the deepest of the loops that this call touched. Its functions are made here, for most calls meet no loop.
settle_next_loop = function(r)
  local function mark_of(r, node, position)
    local j = get(r, 'j:' .. node)
    if not j then return 'u' end
    if not is_wide(j) then return string.sub(j, position, position) end
    local at = (position - 1) % CHUNK + 1
    return string.sub(get(r, chunk_field(node, position)) or FRESH_CHUNK, at, at)
  end

  local function mark_again(mask, was)
    if mask == 'k' or (mask == 'a' and was == 'u') then return was end
    return mask == 'a' and 'b' or mask
  end

  -- What `iterate` does with the marks of a wide join. Returns whether there are undecided, taken, failed edges.
  local function restart_wide(r, node, masks)
    local entry, undecided, taken, failed, last, transform = entry_of(r, node), 0, 0, 0, 0, 0
    for from = 1, #masks, CHUNK do
      local field, fresh = chunk_field(node, from), {}
      local chunk = get(r, field) or FRESH_CHUNK
      for at = 1, math.min(CHUNK, #masks - from + 1) do
        local position = from + at - 1
        local mark = mark_again(string.sub(masks, position, position), string.sub(chunk, at, at))
        fresh[at] = mark
        if mark == 'u' then undecided = undecided + 1 end
        if mark == 'f' then failed = failed + 1 end
        if mark == 't' then
          taken, last = taken + 1, position
          if transforms(entry.ins[position]) then transform = position end
        end
      end
      put(r, field, table.concat(fresh) .. string.sub(FRESH_CHUNK, #fresh + 1))
    end
    put(r, 'j:' .. node, '#' .. undecided .. '|' .. taken .. '|' .. failed .. '|' .. last .. '|' .. transform)
    return undecided > 0, taken > 0, failed > 0
  end

  -- What stays known of a node's last round, as it may be skipped in the next: `|attempt/began/ended/parked`.
  local function last_round(n)
    if n.claims == 0 then return '' end
    if n.s == 'P' or n.s == 'S' then return n.more and n.more ~= '' and '|' .. n.more or '' end
    local ended, parked = string.match(n.more or '', '^(%d+)|?(%d*)$')
    return ended and '|' .. n.attempt .. '/' .. n.since .. '/' .. ended .. '/' .. (parked ~= '' and parked or '0') or ''
  end

  -- The next iteration of a loop (mask chars: k keep the decision, an edge from outside; a the same for an `any` join,
  -- where a decision counts for one iteration only; u and b as above): its nodes, joins and inner loops start over, then its header fires.
  -- No edge will decide about a node that is entered from outside alone, the header of an inner loop: that follows from what is kept.
  local function iterate(r, loop, l)
    local meta = plan_field(r, 'l:' .. loop)
    steps = steps + #meta.nodes
    for _, node in ipairs(meta.nodes) do
      local n = node_state(r, node)
      if n then
        put(r, 'n:' .. node, 'P|0|' .. n.claims .. '|0|0' .. last_round(n))
        put(r, 'p:' .. node, false)
      end
    end
    local kept = {}
    for node, mask in pairs(meta.joins) do
      local j, fresh, undecided, taken, failed = get(r, 'j:' .. node), {}, nil, nil, nil
      if j and is_wide(j) then
        undecided, taken, failed = restart_wide(r, node, mask)
      elseif j then
        for i = 1, #mask do fresh[i] = mark_again(string.sub(mask, i, i), string.sub(j, i, i)) end
        local marks = table.concat(fresh)
        put(r, 'j:' .. node, marks)
        undecided, taken, failed = string.find(marks, 'u', 1, true), string.find(marks, 't', 1, true), string.find(marks, 'f', 1, true)
      end
      if j and node ~= loop and not undecided then kept[node] = {taken, failed} end
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
    for node, marks in pairs(kept) do settle_all_join(r, node, false, marks[1], marks[2]) end
  end

  -- A loop that has nothing active ends, and its untaken exits are dead; unless a back edge was taken or an edge into it is undecided.
  local function settle_loop(r, loop)
    local l = loop_record(r, loop)
    if l.active > 0 or l.closed ~= '' then return end
    if l.back > 0 then
      if r.stop then return note_undone(r) end -- its exits stay undecided: the loop has not ended
      return iterate(r, loop, l)
    end
    local meta = plan_field(r, 'l:' .. loop)
    for _, edge_in in ipairs(meta.entries) do
      local mark = mark_of(r, edge_in[1], edge_in[2])
      if mark == 'u' then return end
    end
    l.closed = 'c'
    put_loop(r, loop, l)
    steps = steps + #meta.exits
    for _, edge in ipairs(meta.exits) do
      local exit_edge = part_of(edge, 1)
      exit_edge.kind, exit_edge.loop = '', '' -- now it is one like any other
      decide(r, exit_edge, 'd')
    end
  end

  -- The touched loop that lies deepest: an outer loop ends only when its inner ones are settled.
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
