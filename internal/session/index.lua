-- Add a login to its user's index, and take the oldest logins out that are over the limit. One user, one key, one step.
--
-- KEYS[1]  a sorted set: session id -> time of its login, or minus the time at which it was taken out
-- ARGV     1 session id, 2 now, 3 a time before which no live session can have started, 4 limit or 0
--          5 lifetime of the key, 6 logins that were taken out before this time and are still here are returned again
--          7 "ask" to add the login, but take nothing out if there are too many, or "take" to do so afterwards
--
-- Times are milliseconds, below 2^53.
--
-- A login that was taken out stays in the set, with a mark, until its session has ended and is removed. So its owner sees
-- it as long as it lives. If the answer is lost, or the replica that took it out crashes before it ends the session, a later
-- login gets it. It does not count against the limit.
--
-- Returns {'over'} if there are too many and nothing was taken out, else {'in', the ids of the sessions to end}.
-- If the script runs twice, the result is the same as if it had run once.

local key, id, now, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4])

redis.call('ZREMRANGEBYSCORE', key, '-' .. ARGV[3], ARGV[3])
if ARGV[7] == 'ask' then
  redis.call('ZADD', key, 'NX', now, id) -- not a second time: another login may have taken it out
end
redis.call('PEXPIRE', key, ARGV[5])

local over = 0
if limit > 0 then
  over = redis.call('ZCOUNT', key, 0, '+inf') - limit
end
if over > 0 and ARGV[7] == 'ask' then
  return {'over'}
end

local answer = {'in'}
local function take(member)
  redis.call('ZADD', key, '-' .. now, member)
  answer[#answer + 1] = member
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '-' .. ARGV[6], '(0')) do
  take(member)
end
if over > 0 then
  -- Read one more than needed: if a clock is slow, the new login may be the oldest, and it must not end itself.
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, 0, '+inf', 'LIMIT', 0, over + 1)) do
    if member ~= id and over > 0 then
      take(member)
      over = over - 1
    end
  end
end
return answer
