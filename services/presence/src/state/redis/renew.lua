-- ARGV[3]: device. Returns the session, alone in a list, or an empty list.
local found, _, last = live(KEYS[2])
local session = found[ARGV[3]]
if not session then
  return {}
end
keep(KEYS[2], ARGV[3], session, last)
return { { session.lease, session.active, session.status } }
