-- Returns whether sessions are complete, and those of each user in the order in
-- which they were opened.
local users = {}
for i = 2, #KEYS do
  local sorted = {}
  for resource, session in pairs((live(KEYS[i]))) do
    session.resource = resource
    sorted[#sorted + 1] = session
  end
  table.sort(sorted, function(a, b)
    if a.opened == b.opened then
      return a.resource < b.resource
    end
    return a.opened < b.opened
  end)
  local sessions = {}
  for n, session in ipairs(sorted) do
    sessions[n] = { session.lease, session.active, session.id, session.status }
  end
  users[#users + 1] = sessions
end
return { complete, users }
