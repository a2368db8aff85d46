-- Keeps a message for a node, in the order of sending. Applied once per message id.
-- KEYS clock
-- ARGV run path message_id payload most
--   path: of a node in a child run `subflow/node`; payload: JSON; most: messages that a node has at most
-- RETURNS {ok, path} | {duplicate, path} | {missing} | {ended, status} | {unknown, path, status} | {over, path, status}: the node has ended
--   | {full, path, status}
--@include base limits run plan joins graph loops memory_usage notify closing run_end run_stop waits

local MOST_NAMES = 50000 -- bytes of the names of nodes that have messages

local id, path, message_id = ARGV.run, ARGV.path, ARGV.message_id
local top = load_run(id)
if not top then return {'missing'} end
local noted = 'mg:' .. message_id
if get(top, noted) then return {'duplicate', get(top, noted)} end
if TERMINAL[top.st] then return {'ended', top.st} end
local r, instance_id = follow(top, path)
if not r then return {'unknown', path, top.st} end
if r ~= top and get(r, noted) then return {'duplicate', path} end
local n = node_state(r, instance_id)
if not n and not plan_field(r, 'n:' .. instance_id) then return {'unknown', path, top.st} end
if TERMINAL[r.st] or r.stop or n and n.s ~= 'P' and n.s ~= 'R' and n.s ~= 'L' and n.s ~= 'T' then return {'over', path, top.st} end

local kept = get(r, 'mq:' .. instance_id)
local first, next = string.match(kept or '1|1', '^(%d+)|(%d+)$')
if next - first >= tonumber(ARGV.most) or not kept and #(r.mn or '') > MOST_NAMES then return {'full', path, top.st} end
put(r, 'm:' .. next .. ':' .. instance_id, ARGV.payload)
put(r, 'mq:' .. instance_id, first .. '|' .. string.format('%d', next + 1))
if not kept then put(r, 'mn', (r.mn or '') .. instance_id .. '\n') end
remember(top, noted)
put(top, noted, path)
if r ~= top then
  remember(r, noted)
  put(r, noted, instance_id)
end
notify_message(r.id, instance_id)
commit()
return {'ok', path}
