-- ARGV[3..4]: device, and as the list of ends names it. Returns the session, alone in a
-- list, or an empty list.
local found, _, last = live(KEYS[2])
local session = found[ARGV[3]]
if not session then
  return {}
end
keep(KEYS[2], ARGV[3], session, last, ARGV[4])
return { { session.lease, session.active, session.id, session.status } }
