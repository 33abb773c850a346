-- ARGV[3..4]: device, and as the list of ends names it.
local session = live(KEYS[2])[ARGV[3]]
redis.call('HDEL', KEYS[2], ARGV[3])
if session then
  redis.call('ZADD', KEYS[3], string.format('%.0f', now), ARGV[4] .. session.id)
end
return 1
