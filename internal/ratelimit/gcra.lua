-- The generic cell rate algorithm for one subject. One key, one step.
--
-- KEYS[1]  the theoretical arrival time of the next call at this rate
-- ARGV     1 now, 2 interval between two calls, 3 tolerance: how much earlier than its theoretical time a call may come
--
-- All times are microseconds, integers below 2^53, which are exact as doubles. Returns 0, or how long to wait.

local now, interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = tonumber(redis.call('GET', KEYS[1]) or '') or now
if arrival < now then
  arrival = now
end
if arrival - now > tolerance then
  return arrival - now - tolerance
end
arrival = arrival + interval
-- The key expires when it has the same meaning as no key. %.0f, because Lua would write large numbers as 1e+15.
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', string.format('%.0f', math.ceil((arrival - now) / 1000)))
return 0
