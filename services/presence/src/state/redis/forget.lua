-- KEYS[2]: the list of ends. ARGV[3..]: sessions in it.
return redis.call('ZREM', KEYS[2], unpack(ARGV, 3))
