-- KEYS[1]: in how many nanoseconds a tally is paid for, negative once it is, and the
-- time at which that was written, in microseconds on the clock of this server.
-- ARGV: what was used, and in what time that alone is paid for, in nanoseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local left = tonumber(ARGV[2])
local was, at = string.match(redis.call('GET', KEYS[1]) or '', '^(-?%d+) (%d+)$')
if was then
  -- A clock that was set back has passed no time.
  left = math.max(left, was - math.max(now - at, 0) * 1000 + ARGV[1])
end
-- What was paid for a moment ago still counts: others tell late what they used.
local keep = math.max(left / 1000000, 0) + 10000
redis.call('SET', KEYS[1], string.format('%.0f %.0f', left, now), 'PX', string.format('%.0f', keep))
return string.format('%.0f', left)
