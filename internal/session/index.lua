-- Put a login into its user's index, and take the oldest logins over the limit out. One user, one key, one step.
--
-- KEYS[1]  a sorted set: session id -> time of its login, or minus the time at which it was taken out
-- ARGV     1 session id, 2 now, 3 the latest time at which nothing started that can still live, 4 limit or 0
--          5 lifetime of the key, 6 what was taken out by then and is still here is handed out again
--          7 "ask" to enter, and take nothing out yet when there are too many, or "take" to do that afterwards
--
-- Times are milliseconds, below 2^53.
--
-- What is taken out stays, marked, until it was ended and is removed: its owner sees it for as long as it lives, and
-- when the answer is lost, or whoever took it out dies before it is ended, a later login gets it. It does not count.
--
-- Answers {'over'} when there are too many and nothing was taken out, else {'in', the ids that are to be ended}.
-- Running this twice adds and takes out no more than running it once.

local key, id, now, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4])

redis.call('ZREMRANGEBYSCORE', key, '-' .. ARGV[3], ARGV[3])
if ARGV[7] == 'ask' then
  redis.call('ZADD', key, 'NX', now, id) -- once only: by the second call another login may have taken it out
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
  -- One more than needed: a clock that is behind may make the new login the oldest, and it is not to end itself.
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, 0, '+inf', 'LIMIT', 0, over + 1)) do
    if member ~= id and over > 0 then
      take(member)
      over = over - 1
    end
  end
end
return answer
