-- Write what a check of health writes, by the commands that keep a session.
--
-- KEYS[1]  a hash that nobody reads
-- ARGV     1 its lifetime in milliseconds

redis.call('HSET', KEYS[1], 'gen', '1')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
