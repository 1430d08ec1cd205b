-- Delete a session if it is this user's. One session, one key, one step.
--
-- KEYS[1]  the hash of the session
-- ARGV     1 user
--
-- Returns 1 if it was deleted, else 0.

if redis.call('HGET', KEYS[1], 'user') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
