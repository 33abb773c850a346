-- ARGV[3..7]: device, lease in ms, active, status, the most sessions.
-- Returns 1, or 0 if there are too many.
local found, count, last = live(KEYS[2])
if not found[ARGV[3]] and count >= tonumber(ARGV[7]) then
  return 0
end
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not found[field] then
    redis.call('HDEL', KEYS[2], field)
  end
end
local opened = time[1] * 1000000 + time[2]
keep(KEYS[2], ARGV[3], { opened = opened, lease = tonumber(ARGV[4]),
  active = tonumber(ARGV[5]), status = ARGV[6] }, last)
return 1
