"""What changes the store, as Lua: each script is atomic, and every write of a session checks its fence first.

Each script takes all keys of its session, or of its tenant's voices, and answers with a word ("ok", or what is wrong)
or with a hash as a flat list of names and values. Times come in as numbers from the caller's wall clock, so that all
that is promised about them follows one clock; the server's own only clears away, later, what has expired anyway.
"""

from typing import Final

from services.orchestrator.adapters.redis.connect import Script

# KEYS session turns tokens
# ARGV 1 now_s, 2 schema version, 3 seconds that a session is kept beyond its retention if nobody writes it
_SESSION: Final = """
local now, version, span = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local function exact(number) return string.format('%.17g', number) end
local function keep(seconds)
  redis.call('HSET', KEYS[1], 'keep_until_s', exact(now + seconds))
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, string.format('%d', math.ceil(seconds * 1000))) end
end
local function bury(why, seconds)
  local fence = redis.call('HGET', KEYS[1], 'fence')
  redis.call('DEL', unpack(KEYS))
  redis.call('HSET', KEYS[1], 'v', ARGV[2], 'fence', fence, 'gone', why)
  keep(seconds)
end
local function standing()
  local kept = redis.call('HMGET', KEYS[1], 'v', 'keep_until_s', 'gone', 'ended_s')
  if not kept[1] or now >= tonumber(kept[2]) then return 'missing' end
  if tonumber(kept[1]) > version then return 'newer' end
  return kept[3] or (kept[4] and 'ended') or 'ok'
end
local function keep_open() keep(span + tonumber(redis.call('HGET', KEYS[1], 'retention_s'))) end
"""

# ARGV 4 fence
_WRITE: Final = (
    _SESSION
    + """
local found = standing()
if found == 'missing' or found == 'newer' or found == 'deleted' then return found end
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[4] then return 'taken' end
"""
)
_WRITE_OPEN: Final = _WRITE + "if found ~= 'ok' then return found end\nkeep_open()\n"

# ARGV 4 owner, 5 digest, then names and values
CREATE: Final = Script(
    _SESSION
    + """
local found = standing()
if found ~= 'missing' then
  local kept = redis.call('HMGET', KEYS[1], 'fence', 'owner')
  local is_same = found == 'ok' and kept[1] == '1' and kept[2] == ARGV[4]
    and redis.call('LLEN', KEYS[3]) == 1 and redis.call('LINDEX', KEYS[3], 0) == ARGV[5]
  return is_same and 'ok' or 'exists'
end
redis.call('DEL', unpack(KEYS))
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'fence', 1, 'owner', ARGV[4], unpack(ARGV, 6))
redis.call('RPUSH', KEYS[3], ARGV[5])
keep_open()
return 'ok'
"""
)

# ARGV 4 owner, 5 digest
RESUME: Final = Script(
    _SESSION
    + """
local found = standing()
if found ~= 'ok' then return found end
if not redis.call('LPOS', KEYS[3], ARGV[5]) then return 'token' end
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[4], 'presented', ARGV[5], 'renewed_s', ARGV[1], 'active_s', ARGV[1])
redis.call('HDEL', KEYS[1], 'detached_s')
keep_open()
return redis.call('HGETALL', KEYS[1])
"""
)

# ARGV 5 digest, 6 tokens at most. What makes room is neither the first, which the client surely had, nor the one that
# it used last.
ADD_TOKEN: Final = Script(
    _WRITE_OPEN
    + """
if redis.call('LPOS', KEYS[3], ARGV[5]) then return 'ok' end
if redis.call('LLEN', KEYS[3]) >= tonumber(ARGV[6]) then
  local oldest = redis.call('LINDEX', KEYS[3], 1)
  if oldest == redis.call('HGET', KEYS[1], 'presented') then oldest = redis.call('LINDEX', KEYS[3], 2) end
  redis.call('LREM', KEYS[3], 1, oldest)
end
redis.call('RPUSH', KEYS[3], ARGV[5])
keep_open()  -- again: the list may be new
return 'ok'
"""
)

# ARGV 5 digest. One that is not there was replaced by a newer one that is confirmed.
CONFIRM_TOKEN: Final = Script(
    _WRITE_OPEN
    + """
local place = redis.call('LPOS', KEYS[3], ARGV[5])
if place then redis.call('LTRIM', KEYS[3], place, -1) end
return 'ok'
"""
)

# ARGV 5 '1' while there is a client, then names and values that only grow
RENEW: Final = Script(
    _WRITE_OPEN
    + """
redis.call('HSET', KEYS[1], 'renewed_s', ARGV[1])
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[1], 'active_s', ARGV[1])
  redis.call('HDEL', KEYS[1], 'detached_s')
else
  redis.call('HSETNX', KEYS[1], 'detached_s', ARGV[1])
end
for place = 6, #ARGV, 2 do
  if tonumber(ARGV[place + 1]) > tonumber(redis.call('HGET', KEYS[1], ARGV[place])) then
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
  end
end
return 'ok'
"""
)

# ARGV 5 options
SAVE_OPTIONS: Final = Script(_WRITE_OPEN + "redis.call('HSET', KEYS[1], 'options', ARGV[5])\nreturn 'ok'\n")

# ARGV 5 number, 6 turn. One that comes late, when its turn is committed, is left alone.
SAVE_OPEN_TURN: Final = Script(
    _WRITE_OPEN
    + """
if tonumber(ARGV[5]) > redis.call('LLEN', KEYS[2]) then
  redis.call('HSET', KEYS[1], 'open_number', ARGV[5], 'open_turn', ARGV[6])
end
return 'ok'
"""
)

# ARGV 5 number, 6 turn, 7 turns at most
COMMIT_TURN: Final = Script(
    _WRITE_OPEN
    + """
local number, last = tonumber(ARGV[5]), redis.call('LLEN', KEYS[2])
if number < 1 or number > last + 1 then return 'gap' end
if number <= last then return 'ok' end
if number > tonumber(ARGV[7]) then return 'full' end
redis.call('RPUSH', KEYS[2], ARGV[6])
redis.call('HSET', KEYS[1], 'turn_count', ARGV[5])
local open = redis.call('HGET', KEYS[1], 'open_number')
if open and tonumber(open) <= number then redis.call('HDEL', KEYS[1], 'open_number', 'open_turn') end
keep_open()  -- again: the list may be new
return 'ok'
"""
)

# ARGV 5 seconds of margin, 6 seconds of the tombstone
END: Final = Script(
    _WRITE
    + """
if found == 'ended' then return 'ok' end
local retention = tonumber(redis.call('HGET', KEYS[1], 'retention_s'))
if retention == 0 then
  bury('ended', tonumber(ARGV[6]))
else
  redis.call('HSET', KEYS[1], 'ended_s', ARGV[1])
  redis.call('HDEL', KEYS[1], 'open_number', 'open_turn')
  redis.call('DEL', KEYS[3])
  keep(retention + tonumber(ARGV[5]))
end
return 'ok'
"""
)

# ARGV 4 seconds of the tombstone
DELETE: Final = Script(
    _SESSION
    + """
local found = standing()
if found == 'newer' then return found end
if found == 'missing' or redis.call('HEXISTS', KEYS[1], 'gone') == 1 then return 'missing' end
bury('deleted', tonumber(ARGV[4]))
return 'ok'
"""
)

# KEYS voices order expiry removed count, then what a script names
# ARGV 1 now_s, 2 positions of removed voices that are remembered
_VOICES: Final = """
local now = tonumber(ARGV[1])
local voices, order, expiry, removed, count = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local function drop(id)
  redis.call('ZADD', removed, redis.call('ZSCORE', order, id), id)
  redis.call('ZREMRANGEBYRANK', removed, 0, -tonumber(ARGV[2]) - 1)
  redis.call('PEXPIRE', removed, redis.call('PTTL', count))
  redis.call('ZREM', order, id)
  redis.call('ZREM', expiry, id)
  redis.call('HDEL', voices, 'about:' .. id, 'created:' .. id)
end
local function keep(features, id, until_s, margin_s)
  local ms = math.ceil((tonumber(until_s) - now + tonumber(margin_s)) * 1000)
  redis.call('ZADD', expiry, until_s, id)
  redis.call('PEXPIRE', features, string.format('%d', ms))
  for place = 1, 5 do
    if redis.call('PTTL', KEYS[place]) < ms then redis.call('PEXPIRE', KEYS[place], string.format('%d', ms)) end
  end
end
local function later(one, other)
  if one and tonumber(one) > tonumber(other) then return one end
  return other
end
local function whole(features, id)
  local about = redis.call('HMGET', voices, 'about:' .. id, 'created:' .. id)
  local parts = redis.call('HMGET', features, 'tokens', 'mel', 'embedding')
  return {about[1], about[2], redis.call('ZSCORE', expiry, id), parts[1], parts[2], parts[3]}
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', ARGV[1])) do drop(id) end
"""

# KEYS 6 features, 7 request
# ARGV 3 voice id, 4 about, 5 made at, 6 expiry, 7 margin, 8 voices at most, 9 digest of the request or '', 10 seconds
#      that it counts, 11 tokens, 12 mel, 13 embedding
PUT_VOICE: Final = Script(
    _VOICES
    + """
local id, digest = ARGV[3], ARGV[9]
local kept = redis.call('ZSCORE', order, id)
if digest ~= '' then
  local made = redis.call('HMGET', KEYS[7], 'digest', 'voice_id', 'made_s')
  if made[1] and now < tonumber(made[3]) + tonumber(ARGV[10]) then
    if made[1] ~= digest then return 'reused' end
    if kept and made[2] == id then return whole(KEYS[6], id) end
  end
end
if not kept then
  if redis.call('ZCARD', order) >= tonumber(ARGV[8]) then return 'full' end
  redis.call('ZADD', order, redis.call('INCR', count), id)
end
redis.call('HSET', voices, 'about:' .. id, ARGV[4])
redis.call('HSETNX', voices, 'created:' .. id, ARGV[5])
redis.call('HSET', KEYS[6], 'tokens', ARGV[11], 'mel', ARGV[12], 'embedding', ARGV[13])
keep(KEYS[6], id, later(redis.call('ZSCORE', expiry, id), ARGV[6]), ARGV[7])
if digest ~= '' then
  redis.call('HSET', KEYS[7], 'digest', digest, 'voice_id', id, 'made_s', ARGV[1])
  redis.call('PEXPIRE', KEYS[7], string.format('%d', 1000 * ARGV[10]))
end
return whole(KEYS[6], id)
"""
)

# KEYS 6 features
# ARGV 3 voice id, 4 expiry if it is used now, or '', 5 margin
GET_VOICE: Final = Script(
    _VOICES
    + """
local id = ARGV[3]
if not redis.call('ZSCORE', order, id) or redis.call('EXISTS', KEYS[6]) == 0 then return 'missing' end
if ARGV[4] ~= '' then keep(KEYS[6], id, later(redis.call('ZSCORE', expiry, id), ARGV[4]), ARGV[5]) end
return whole(KEYS[6], id)
"""
)

# ARGV 3 voice id to go on from, or '', 4 voices at most
LIST_VOICES: Final = Script(
    _VOICES
    + """
local from = '-inf'
if ARGV[3] ~= '' then
  from = redis.call('ZSCORE', order, ARGV[3]) or redis.call('ZSCORE', removed, ARGV[3])
  if not from then return 'lost' end
  from = '(' .. from
end
local page = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', order, from, '+inf', 'LIMIT', 0, ARGV[4])) do
  local about = redis.call('HMGET', voices, 'about:' .. id, 'created:' .. id)
  page[#page + 1] = {id, about[1], about[2], redis.call('ZSCORE', expiry, id)}
end
return page
"""
)

# KEYS 6 features
# ARGV 3 voice id
DELETE_VOICE: Final = Script(
    _VOICES
    + """
if not redis.call('ZSCORE', order, ARGV[3]) then return 'missing' end
drop(ARGV[3])
redis.call('DEL', KEYS[6])
return 'ok'
"""
)
