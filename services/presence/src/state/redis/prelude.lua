-- Before every script. KEYS[1] is the marker of the shard, the other keys are users
-- of that shard. ARGV[1] and ARGV[2]: the gap and the duration of the doubt, in ms.
-- The time is that of this server: one clock for all nodes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gap, lasts = tonumber(ARGV[1]), tonumber(ARGV[2])

-- The marker: when somebody was last here, and since when without a gap. It is
-- missing where the server came back empty, and old where it came back with old
-- data or was away.
local marker = redis.call('HMGET', KEYS[1], 'alive', 'since')
local alive, since = tonumber(marker[1]), tonumber(marker[2])
if not alive or not since or math.abs(now - alive) > gap then
  since = now
  redis.call('HSET', KEYS[1], 'alive', string.format('%.0f', now),
    'since', string.format('%.0f', now))
elseif now - alive > gap / 8 then
  redis.call('HSET', KEYS[1], 'alive', string.format('%.0f', now))
end
local complete = now - since >= lasts and 1 or 0

-- The sessions of a user that live, by device; how many; and when the last one ends. One
-- that begins in the future was written by a clock that was ahead, and would live for as
-- long as that: it counts as lost, and the marker shows that the clock went back.
local function live(key)
  local found, count, last = {}, 0, 0
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local ends, opened, lease, active, id, status =
      string.match(fields[i + 1], '^(%d+) (%d+) (%d+) (%d+) (%x+) (.*)$')
    if ends and tonumber(ends) > now and tonumber(ends) - tonumber(lease) <= now + gap then
      found[fields[i]] = { ends = tonumber(ends), opened = tonumber(opened),
        lease = tonumber(lease), active = tonumber(active), id = id, status = status }
      count = count + 1
      last = math.max(last, tonumber(ends))
    end
  end
  return found, count, last
end

-- Writes a session whose lease begins now. `last`: when the user's other ones end;
-- `named`: the device, as the list of ends in KEYS[3] names it.
local function keep(key, resource, session, last, named)
  local ends = now + session.lease
  redis.call('HSET', key, resource, string.format('%.0f %.0f %.0f %.0f %s %s', ends,
    session.opened, session.lease, session.active, session.id, session.status))
  redis.call('PEXPIREAT', key, string.format('%.0f', math.max(ends, last)))
  redis.call('ZADD', KEYS[3], string.format('%.0f', ends), named .. session.id)
end
