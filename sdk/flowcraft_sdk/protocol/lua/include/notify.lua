-- What is done last when a run has ended: those that wait for its end are notified.

-- A client that waits for the end alone subscribes to another channel, and is not woken by each step of a run; the client that has
-- started the run may have an inbox for the ends of all its runs. A small record goes along, which saves the subscribers
-- reading it. size: its bytes; token: of the start, perhaps with an inbox and a notification token: `INBOX@TOKEN`.
local function notify_end(id, st, size, token)
  local k, channel, payload = B .. 'run:' .. id, B .. 'end:' .. id, st
  local inbox, notification_token = string.match(token or '', '^(.+)@(.+)$')
  inbox = inbox and B .. 'inbox:' .. inbox
  if size > 0 and size <= 8192 and redis.call('HLEN', k) <= 100 then
    local subscribers = redis.pcall('PUBSUB', 'NUMSUB', channel, inbox or channel)
    if (subscribers[2] or 0) > 0 or (subscribers[4] or 0) > 0 then payload = st .. ' ' .. cjson.encode(redis.call('HGETALL', k)) end
  end
  redis.call('PUBLISH', channel, payload)
  if inbox then redis.call('PUBLISH', inbox, notification_token .. ' ' .. payload) end
end
