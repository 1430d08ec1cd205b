-- Note that the owner of a session has just been authenticated again. One session, one key, one step.
--
-- KEYS[1]  the hash of the session
-- ARGV     1 user, 2 absolute end, 3 ledger position: those of the session that the caller has read
--          4 now, 5 the authentication methods
--
-- Times are milliseconds. Nothing else of the session changes, neither its refresh token nor its life.
--
-- Returns 1, or 0 if the session was deleted, replaced or has ended.

local key = KEYS[1]
local held = redis.call('HMGET', key, 'user', 'end', 'ledger', 'idle_end')

for i = 1, 3 do
  if held[i] ~= ARGV[i] then
    return 0
  end
end

local now, idle_end = tonumber(ARGV[4]), tonumber(held[4] or '')
if not idle_end or now >= idle_end or now >= tonumber(ARGV[2]) then
  return 0
end

redis.call('HSET', key, 'authenticated', ARGV[4], 'amr', ARGV[5])
return 1
