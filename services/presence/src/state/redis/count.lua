-- KEYS[2]: the list of ends. Returns how many sessions end later than now.
return redis.call('ZCOUNT', KEYS[2], string.format('(%.0f', now), '+inf')
