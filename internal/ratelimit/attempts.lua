-- The failures and open reservations of one subject. One key, one step.
--
-- KEYS[1]  a hash: name -> "r<end of the reservation>" or "f<time of the failure>". A name ends in "@<source>", the
--          source of the attempt. An entry without a source counts against every source.
-- ARGV     1 operation, 2 name, 3 now, 4 limit of a source, 5 window, 6 hold, 7 lifetime of the key, 8 limit of all
--          sources together
--          carry only: 9 number of failures, 10 their time
--
-- Times are milliseconds, below 2^53. They are stored as the caller formats them, or with %.0f, because Lua would write
-- large numbers as 1e+15.
--
-- Returns 0 if the operation is done. fail returns the number of failures now: those of the source times 10,000, plus those
-- of all sources. reserve and take return the milliseconds until a place is free if failures fill all places, and -1 if
-- failures and reservations together do: then the caller asks again.
-- If an operation runs twice, the result is the same as if it had run once: the driver repeats it if a connection breaks.

local key, operation, id = KEYS[1], ARGV[1], ARGV[2]
local now, limit, window = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local hold, total = tonumber(ARGV[6]), tonumber(ARGV[8])

if operation == 'release' then
  redis.call('HDEL', key, id)
  return 0
end
if operation == 'carry' then
  -- The names do not change, so a counter that is read again adds only the new failures. The time is computed again for
  -- each call, and only a later time is stored, so that no failure leaves the window before its counter expires.
  for i = 1, tonumber(ARGV[9]) do
    local name = id .. i
    local held = redis.call('HGET', key, name)
    if not held or tonumber(string.sub(held, 2)) < tonumber(ARGV[10]) then
      redis.call('HSET', key, name, 'f' .. ARGV[10])
    end
  end
  redis.call('PEXPIRE', key, ARGV[7])
  return 0
end
if operation == 'fail' then
  redis.call('HSET', key, id, 'f' .. ARGV[3])
  redis.call('PEXPIRE', key, ARGV[7])
end

local function sourceOf(name)
  return string.match(name, '@(.*)$')
end

local source = sourceOf(id)
local entries = redis.call('HGETALL', key)
-- own are the failures that count against the source, all those of the subject; open and ownOpen are reservations.
local own, all, ownOpen, open, present = {}, {}, 0, 0, false
for i = 1, #entries, 2 do
  local name, failed, at = entries[i], string.sub(entries[i + 1], 1, 1) == 'f', tonumber(string.sub(entries[i + 1], 2))
  local from = sourceOf(name)
  local mine = source == nil or from == nil or from == source
  if not failed and at <= now then
    -- Nobody has settled it, and a password may have been compared: it is a failure, at the time when it began.
    failed, at = true, at - hold
  end
  local drop
  if operation == 'succeed' then
    drop = failed and mine or name == id
  else -- a failure leaves the window after it
    drop = failed and at + window <= now
  end
  if drop then
    redis.call('HDEL', key, name)
  else
    present = present or name == id
    if failed then
      all[#all + 1] = at
    else
      open = open + 1
    end
    if mine and failed then
      own[#own + 1] = at
    elseif mine then
      ownOpen = ownOpen + 1
    end
  end
end

if operation == 'fail' then
  return #own * 10000 + #all
end
if operation == 'succeed' or present then
  return 0
end

-- wait is how long failures alone stop the next attempt. If there are more failures than the limit, because the limit was
-- lowered, more than one must leave the window.
local function wait(failures, most)
  if #failures < most then
    return 0
  end
  table.sort(failures)
  return failures[#failures - most + 1] + window - now
end

local left = math.max(wait(own, limit), wait(all, total))
if left > 0 then
  return left
end
if #own + ownOpen >= limit or #all + open >= total then
  return -1
end
if operation == 'take' then
  redis.call('HSET', key, id, 'f' .. ARGV[3])
else
  redis.call('HSET', key, id, 'r' .. string.format('%.0f', now + hold))
end
redis.call('PEXPIRE', key, ARGV[7])
return 0
