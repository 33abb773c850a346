-- ARGV[3..9]: device, lease in ms, active, status, the most sessions, the id of a session
-- that begins, the device in the list of ends. Returns the session's id, or '' if there
-- are too many.
local found, count, last = live(KEYS[2])
local before = found[ARGV[3]]
if not before and count >= tonumber(ARGV[7]) then
  return ''
end
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not found[field] then
    redis.call('HDEL', KEYS[2], field)
  end
end
local opened = time[1] * 1000000 + time[2]
local id = before and before.id or ARGV[8]
keep(KEYS[2], ARGV[3], { opened = opened, lease = tonumber(ARGV[4]),
  active = tonumber(ARGV[5]), id = id, status = ARGV[6] }, last, ARGV[9])
return id
