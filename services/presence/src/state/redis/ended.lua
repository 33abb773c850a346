-- KEYS[2]: the list of ends. ARGV[3..4]: how many at most, and for how long, in ms, nobody
-- else gets them. Returns sessions that have ended, unless some may have ended because
-- nobody could renew them.
if complete == 0 then
  return {}
end
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now),
  'LIMIT', 0, ARGV[3])
local again = string.format('%.0f', now + ARGV[4])
for _, session in ipairs(ended) do
  redis.call('ZADD', KEYS[2], again, session)
end
return ended
