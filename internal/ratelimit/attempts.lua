-- The failures and open reservations of one subject. One key, one step.
--
-- KEYS[1]  a hash: name -> "r<end of the reservation>" or "f<time of the failure>". A name ends in "@<source>", where
--          the attempt came from; one without counts against every source.
-- ARGV     1 operation, 2 name, 3 now, 4 limit of a source, 5 window, 6 hold, 7 lifetime of the key, 8 limit of all
--          sources together
--          carry only: 9 number of failures, 10 their time
--
-- Times are milliseconds, below 2^53. They are stored as the caller wrote them, or with %.0f, as Lua would turn large
-- numbers into 1e+15.
--
-- Answers 0 when done; fail answers how many failures count now, those of the source times 10,000 plus all. reserve
-- and take answer the milliseconds until a place comes free when failures fill all, and -1 when failures and
-- reservations do: then nothing is decided yet.
-- Running an operation twice does no more than running it once: the driver does that when a connection breaks.

local key, operation, id = KEYS[1], ARGV[1], ARGV[2]
local now, limit, window = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local hold, total = tonumber(ARGV[6]), tonumber(ARGV[8])

if operation == 'release' then
  redis.call('HDEL', key, id)
  return 0
end
if operation == 'carry' then
  -- The names are fixed: a counter that is read again adds what it has grown by. The time is found anew each time,
  -- and only a later one counts, so that nothing leaves the window before its counter does.
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
    -- Nobody has said what became of it, and a guess may have been checked: it is a failure of when it began.
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

-- wait is how long failures alone keep the next one out. With more failures than the limit, as after the limit was
-- lowered, one leaving is not enough.
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
