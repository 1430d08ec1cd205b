-- The failures and open reservations of one subject. One key, one step.
--
-- KEYS[1]  a hash: reservation id -> "r<end of the reservation>" or "f<time of the failure>"
-- ARGV     1 operation, 2 reservation id, 3 now, 4 limit, 5 window, 6 hold, 7 lifetime of the key
--          carry only: 8 number of failures, 9 their time
--
-- Times are milliseconds, below 2^53. They are stored as the caller wrote them, or with %.0f, as Lua would turn large
-- numbers into 1e+15.
--
-- Answers 0 when done. reserve and take answer the milliseconds until a place comes free when failures fill all, and
-- -1 when failures and reservations do: then nothing is decided yet.
-- Running an operation twice does no more than running it once: the driver does that when a connection breaks.

local key, operation, id = KEYS[1], ARGV[1], ARGV[2]
local now, limit, window = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

if operation == 'fail' then
  redis.call('HSET', key, id, 'f' .. ARGV[3])
  redis.call('PEXPIRE', key, ARGV[7])
  return 0
end
if operation == 'release' then
  redis.call('HDEL', key, id)
  return 0
end
if operation == 'carry' then
  -- The names are fixed: a counter that is read again adds what it has grown by. The time is found anew each time,
  -- and only a later one counts, so that nothing leaves the window before its counter does.
  for i = 1, tonumber(ARGV[8]) do
    local name = id .. i
    local held = redis.call('HGET', key, name)
    if not held or tonumber(string.sub(held, 2)) < tonumber(ARGV[9]) then
      redis.call('HSET', key, name, 'f' .. ARGV[9])
    end
  end
  redis.call('PEXPIRE', key, ARGV[7])
  return 0
end

local entries = redis.call('HGETALL', key)
local failures, open, present = {}, 0, false
for i = 1, #entries, 2 do
  local name, kind, at = entries[i], string.sub(entries[i + 1], 1, 1), tonumber(string.sub(entries[i + 1], 2))
  local drop
  if operation == 'reserve' or operation == 'take' then
    -- A failure leaves the window after it, a reservation ends at its time.
    drop = kind == 'f' and at + window <= now or kind == 'r' and at <= now
  elseif operation == 'succeed' then
    drop = kind == 'f' or name == id
  else -- clear
    drop = kind == 'f'
  end
  if drop then
    redis.call('HDEL', key, name)
  else
    if name == id then
      present = true
    end
    if kind == 'f' then
      failures[#failures + 1] = at
    else
      open = open + 1
    end
  end
end

if operation == 'succeed' or operation == 'clear' or present then
  return 0
end
if #failures >= limit then
  -- With more failures than the limit, as after the limit was lowered, one leaving is not enough.
  table.sort(failures)
  return failures[#failures - limit + 1] + window - now
end
if #failures + open >= limit then
  return -1
end
if operation == 'take' then
  redis.call('HSET', key, id, 'f' .. ARGV[3])
else
  redis.call('HSET', key, id, 'r' .. string.format('%.0f', now + tonumber(ARGV[6])))
end
redis.call('PEXPIRE', key, ARGV[7])
return 0
