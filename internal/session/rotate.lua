-- Advance a session by one generation, or return why not. One session, one key, one step.
--
-- KEYS[1]  the hash of the session
-- ARGV     the values for which the token's MAC was checked:
--          1 user, 2 absolute end, 3 ledger position, 4 proof: the hash of the salt and of 15
--          5 the token's generation, 6 its successor's, 7 hash of the request id or "", 8 name of the current maker of tokens
--          9 now, 10 grace, 11 idle end after an advance, 12 lifetime of the key after an advance
--          13 a generation that the session is known to have reached, or 0, 14 the time when it had
--          15 the text that is hashed after the salt, of a fixed length
--
-- Times are milliseconds. Numbers are doubles in Lua, and generations and times are below 2^53. The caller formats the
-- numbers that are stored, because Lua would write large ones as 1e+15.
--
-- Returns {outcome, time of the last advance, idle end, key of the latest generation, and the fields of the session that
-- the caller may not have: salt, created, authenticated, device, address, amr} or {refusal}.
-- A refusal changes nothing: the caller appends to the ledger first, and deletes the session afterwards.

local key = KEYS[1]
local held = redis.call('HMGET', key, 'user', 'end', 'ledger', 'salt', 'gen', 'request', 'rotated', 'spent', 'idle_end', 'key',
  'created', 'authenticated', 'device', 'address', 'amr')

-- There is no such session: it was deleted since the MAC was checked, or replaced by another one, or somebody made the
-- token who knows the secret and not the salt. Lua compares strings by their address, so the time says nothing.
local salt = held[4] or ''
if #salt ~= 64 or redis.sha1hex(salt .. ARGV[15]) ~= ARGV[4] then
  return {'unknown'}
end
for i = 1, 3 do
  if held[i] ~= ARGV[i] then
    return {'unknown'}
  end
end

local function answer(outcome, rotated, idle_end, maker)
  return {outcome, rotated, idle_end, maker, salt, held[11] or '', held[12] or '', held[13] or '', held[14] or '', held[15] or ''}
end

local current = tonumber(held[5] or '')
local request = held[6] or ''
local rotated = tonumber(held[7] or '')
-- The time when the generation two behind was spent. Empty if there was none, and unknown (empty) after catching up.
local spent = tonumber(held[8] or '')
local idle_end = tonumber(held[9] or '')
if not current or not rotated or not idle_end then
  return {'unknown'}
end

local generation = tonumber(ARGV[5])
local now = tonumber(ARGV[9])
local grace = tonumber(ARGV[10])

if now >= idle_end or now >= tonumber(ARGV[2]) then
  return {'ended'}
end

-- Redis was rolled back to before a generation that the caller knows: lower generations are spent, although the session
-- here says otherwise. The last of them may still be a repeat whose answer was lost, as within the grace below.
local mark = tonumber(ARGV[13])
if current < mark and (generation < mark - 1 or generation == mark - 1 and now - tonumber(ARGV[14]) > grace) then
  return {'reused'}
end

if generation >= current then
  local outcome, spent_before = 'advanced', held[7]
  if generation > current then
    -- The MAC is right, so this generation was issued, and Redis was rolled back. To refuse it would log out every client
    -- after a failover. To accept it means that, if two clients share a token, the next spent token shows it.
    outcome, spent_before = 'caught_up', ''
  end
  redis.call('HSET', key,
    'gen', ARGV[6], 'request', ARGV[7], 'rotated', ARGV[9], 'spent', spent_before,
    'idle_end', ARGV[11], 'key', ARGV[8])
  redis.call('PEXPIRE', key, ARGV[12])
  return answer(outcome, ARGV[9], ARGV[11], ARGV[8])
end

if generation == current - 1 then
  -- The successor is unused: otherwise the session would have advanced further.
  if request ~= '' and request == ARGV[7] then
    return answer('same_request', held[7], held[9], held[10] or '')
  end
  if now - rotated <= grace then
    return answer('in_grace', held[7], held[9], held[10] or '')
  end
  return {'reused'}
end

if generation == current - 2 and spent and now - spent <= grace then
  return {'late'}
end
return {'reused'}
