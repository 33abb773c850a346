-- ARGV[3]: device.
redis.call('HDEL', KEYS[2], ARGV[3])
return 1
