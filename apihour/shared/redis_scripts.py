"""What is done in Redis or Valkey at a stroke, in Lua.

A key is a hash of its value (``v``) and revision (``r``), which expires by itself. All names are in
a sorted set, so that those with one prefix are found without a look at others' data. The next
revision is above the last and not below the server's clock in microseconds: it only grows, even
where the data was lost.
"""

from __future__ import annotations

__all__ = ["APPEND", "DELETE", "FORGET", "INCREMENT", "LOOK", "PUT"]

# KEYS: the key's hash, the last revision, the names. ARGV: the name, the channel, then their own.
_NEXT = """
local function commit(value, ttl)
  local now = redis.call('TIME')
  local revision = tonumber(redis.call('GET', KEYS[2]) or '0') + 1
  revision = math.max(revision, now[1] * 1000000 + now[2])
  local text = string.format('%.0f', revision)
  redis.call('SET', KEYS[2], text)
  redis.call('DEL', KEYS[1])
  if value then
    redis.call('HSET', KEYS[1], 'r', text, 'v', value)
    if ttl ~= '' then redis.call('PEXPIRE', KEYS[1], ttl) end
    redis.call('ZADD', KEYS[3], 0, ARGV[1])
  else
    redis.call('ZREM', KEYS[3], ARGV[1])
  end
  redis.call('PUBLISH', ARGV[2], text .. ' ' .. ARGV[1])
  return text
end
local function present()
  return redis.call('HGET', KEYS[1], 'r') or '0'
end
"""

# value, expected revision or nothing, milliseconds or nothing; returns how it went, revision
PUT = _NEXT + """
local old = present()
if ARGV[4] ~= '' and ARGV[4] ~= old then return {'revision', old} end
return {'done', commit(ARGV[3], ARGV[5])}
"""

# expected revision or nothing
DELETE = _NEXT + """
local old = present()
if ARGV[3] ~= '' and ARGV[3] ~= old then return {'revision', old} end
if old == '0' then return {'absent', old} end
return {'done', commit(nil, '')}
"""

# number, milliseconds or nothing; returns the sum as well
INCREMENT = _NEXT + """
local value = redis.call('HGET', KEYS[1], 'v')
redis.call('SET', KEYS[3] .. ':sum', value or '0', 'PX', 1000)
local sum = redis.pcall('INCRBY', KEYS[3] .. ':sum', ARGV[3])
local text = redis.call('GET', KEYS[3] .. ':sum')
redis.call('DEL', KEYS[3] .. ':sum')
if type(sum) == 'table' then return {'number', string.sub(value or '', 1, 40)} end
return {'done', commit(text, ARGV[4]), text}
"""

# what to add, milliseconds or nothing, the most bytes
APPEND = _NEXT + """
local value = (redis.call('HGET', KEYS[1], 'v') or '') .. ARGV[3]
if #value > tonumber(ARGV[5]) then return {'long', tostring(#value)} end
return {'done', commit(value, ARGV[4])}
"""

# Revision, value, and milliseconds left (-1: for ever) of a key; nothing when it is not there.
LOOK = """
local found = redis.call('HMGET', KEYS[1], 'r', 'v')
if not found[1] then return {} end
return {found[1], found[2], redis.call('PTTL', KEYS[1])}
"""

# KEYS: hash, names; ARGV: name. An expired key is still among the names.
FORGET = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
return 0
"""
