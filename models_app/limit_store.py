"""Where the use of limits is counted: one Lua script in Redis, so that every change is atomic.

Every limit has a bucket. A bucket with a *period* is a queue that drains from its front, as much
as the limit allows in a period: what has drained is forgotten. A bucket with an *end* is a sum that
only its end forgets. A *call* is what is counted once; it may be tried several times. While a try
is open it holds what was reserved for it; a call holds the most that any of its tries holds or has
used. Whatever changes that is added to the buckets, or given back as far as it has not drained.

    ollamasite:limits:bucket:<subject>:<unit>:<period>   MessagePack: at, queue of [call, amount]
    ollamasite:limits:call:<id>                          MessagePack: tries, charges, settled
    ollamasite:limits:open                               sorted set: "<call> <try>" by its end

A try that nobody settles ends by itself and gives back what it held; one that is settled after
that still counts. Times are milliseconds since 1970 by the caller's clock: a clock that goes back
drains nothing. Keys are found by the script itself, so a Redis cluster will not do. Knows nothing
of users, settings and answers.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_TIMEOUT_S: Final = 1.0
_MAX_CONNECTIONS: Final = 16
_PREFIX: Final = "ollamasite:limits:"

# How long a try may stay open: far longer than an answer takes, as it only has to end what a
# process left behind when it died.
OPEN_MS: Final = 60 * 60 * 1000
# How long tries are taken for the same call, and how many: one key for ever would be no limit.
REPEATED_MS: Final = 24 * 60 * 60 * 1000
MAX_TRIES: Final = 3
# How long a settled try is remembered, so that settling it again changes nothing.
_SETTLED_MS: Final = 60 * 1000

_SCRIPT: Final = """
local asked = cmsgpack.unpack(ARGV[1])
local prefix, now = asked.prefix, asked.now
local buckets, touched = {}, {}

local function bucket_of(spec)
  local bucket = buckets[spec.key]
  if bucket then return bucket end
  local packed = redis.call('GET', prefix .. 'bucket:' .. spec.key)
  bucket = packed and cmsgpack.unpack(packed) or {at = now, queue = {}}
  local gone = spec.period > 0 and (now - bucket.at) * spec.amount or 0
  while gone > 0 and bucket.queue[1] do
    local first = bucket.queue[1]
    local part = math.min(gone, first[2])
    gone, first[2] = gone - part, first[2] - part
    if first[2] == 0 then table.remove(bucket.queue, 1) end
  end
  bucket.at = math.max(now, bucket.at)
  buckets[spec.key] = bucket
  return bucket
end

-- In units of which `spec.amount` drain in a millisecond: all numbers stay whole.
local function scale_of(spec) return spec.period > 0 and spec.period or 1 end

-- What never drains can always be given back, whoever put it there.
local function owner_of(spec, id) return spec.period > 0 and id or '' end

local function push(queue, owner, amount)
  local last = queue[#queue]
  if last and last[1] == '' and owner == '' then
    last[2] = last[2] + amount
  else
    queue[#queue + 1] = {owner, amount}
  end
end

local function sum_of(bucket)
  local sum = 0
  for _, entry in ipairs(bucket.queue) do sum = sum + entry[2] end
  return sum
end

local function give_back(bucket, owner, most)
  for place = #bucket.queue, 1, -1 do
    local entry = bucket.queue[place]
    if entry[1] == owner and most > 0 then
      local part = math.min(most, entry[2])
      most, entry[2] = most - part, entry[2] - part
      if entry[2] == 0 then table.remove(bucket.queue, place) end
    end
  end
end

-- Entries that nobody can give back any more become one.
local function forget_owner(bucket, id)
  local kept = {}
  for _, entry in ipairs(bucket.queue) do
    push(kept, entry[1] == id and '' or entry[1], entry[2])
  end
  bucket.queue = kept
end

local function held_by(call, unit)
  local most = call.settled[unit] or 0
  for _, try in pairs(call.tries) do most = math.max(most, try.amounts[unit] or 0) end
  return most
end

local function change_of(call, spec)
  return held_by(call, spec.unit) - (call.charges[spec.key] or 0)
end

local function charge(call, id)
  for _, spec in ipairs(call.specs) do
    local bucket, change = bucket_of(spec), change_of(call, spec)
    touched[spec.key] = spec
    if change > 0 then
      push(bucket.queue, owner_of(spec, id), change * scale_of(spec))
    elseif change < 0 then
      give_back(bucket, owner_of(spec, id), -change * scale_of(spec))
    end
    call.charges[spec.key] = held_by(call, spec.unit)
    if not next(call.tries) and not call.repeats then forget_owner(bucket, id) end
  end
end

local function load_call(id)
  local packed = redis.call('GET', prefix .. 'call:' .. id)
  return packed and cmsgpack.unpack(packed)
end

local function save_call(call, id)
  local lasts = next(call.tries) and 2 * asked.open or asked.settled
  if call.repeats then lasts = asked.repeated end
  redis.call('SET', prefix .. 'call:' .. id, cmsgpack.pack(call), 'PX', lasts)
end

local function save_buckets()
  for key, spec in pairs(touched) do
    local bucket, name = buckets[key], prefix .. 'bucket:' .. key
    if #bucket.queue == 0 then
      redis.call('DEL', name)
    else
      local lasts = spec.period > 0 and math.ceil(sum_of(bucket) / spec.amount) or spec.ends - now
      redis.call('SET', name, cmsgpack.pack(bucket), 'PX', math.max(1000, lasts) + asked.open)
    end
  end
end

local function end_left_tries()
  local left = redis.call('ZRANGEBYSCORE', prefix .. 'open', '-inf', now, 'LIMIT', 0, 100)
  for _, member in ipairs(left) do
    local id, try = member:match('^(%S+) (%S+)$')
    local call = load_call(id)
    redis.call('ZREM', prefix .. 'open', member)
    if call and call.tries[try] then
      call.tries[try] = nil
      charge(call, id)
      save_call(call, id)
    end
  end
end

local function state_of(spec)
  local bucket = bucket_of(spec)
  local sum, scale = sum_of(bucket), scale_of(spec)
  local remaining = math.max(0, math.floor((spec.amount * scale - sum) / scale))
  local reset = spec.period > 0 and math.ceil(sum / spec.amount) or math.max(0, spec.ends - now)
  return {remaining = remaining, reset = reset}
end

-- Milliseconds until an addition fits; 0: it does now.
local function wait_for(spec, change)
  local over = sum_of(bucket_of(spec)) + (change - spec.amount) * scale_of(spec)
  if change <= 0 or over <= 0 then return 0 end
  return math.max(1, spec.period > 0 and math.ceil(over / spec.amount) or spec.ends - now)
end

local function new_call()
  return {specs = asked.specs, repeats = asked.repeats,
          tries = {}, charges = {}, settled = {}, done = {}, count = 0}
end

local function reserve()
  end_left_tries()
  local id, call = asked.call, load_call(asked.call)
  if call and call.count >= asked.most and not call.tries[asked.try] then
    id, call = asked.try, nil
  end
  call = call or new_call()
  -- Whoever asked has left already, and its settlement came first.
  if call.done[asked.try] then return {call = id, states = {}} end
  if not call.tries[asked.try] then call.count = call.count + 1 end
  call.tries[asked.try] = {amounts = asked.amounts}
  local waits, is_refused = {}, false
  for place, spec in ipairs(call.specs) do
    waits[place] = wait_for(spec, change_of(call, spec))
    is_refused = is_refused or waits[place] > 0
  end
  if not is_refused then
    charge(call, id)
    save_call(call, id)
    redis.call('ZADD', prefix .. 'open', now + asked.open, id .. ' ' .. asked.try)
  end
  local states = {}
  for place, spec in ipairs(call.specs) do
    states[place] = state_of(spec)
    states[place].wait = waits[place]
    states[place].spec = spec
  end
  save_buckets()
  return {call = id, states = states}
end

local function settle()
  local id, call = asked.call, load_call(asked.call) or new_call()
  redis.call('ZREM', prefix .. 'open', id .. ' ' .. asked.try)
  if call.done[asked.try] then return {call = id, states = {}} end
  call.tries[asked.try] = nil
  call.done[asked.try] = true
  for unit, amount in pairs(asked.amounts) do
    call.settled[unit] = math.max(call.settled[unit] or 0, amount)
  end
  charge(call, id)
  save_call(call, id)
  save_buckets()
  return {call = id, states = {}}
end

return cmsgpack.pack(asked.is_settling and settle() or reserve())
"""


class StoreLost(Exception):
    """Redis does not answer."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One limit as the store knows it.

    `amount` of a `unit` may be used: in every `period` of milliseconds, or, where that is 0, until
    `ends`. Limits of one key share a bucket. `name` is for people.
    """

    key: str
    name: str
    unit: str
    amount: int
    period: int = 0
    ends: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a limit leaves. Milliseconds: `reset` until all of it is there, `wait` until enough is.

    A `wait` above 0 means that the try was refused because of this limit.
    """

    spec: Spec
    remaining: int
    reset: int
    wait: int


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """`call` is the id under which the try was counted."""

    call: str
    states: list[State]


class LimitStore:
    """The counters in one Redis. Belongs to one event loop."""

    def __init__(self, url: str) -> None:
        # One repetition: Redis may have been started again since a connection was used. A script
        # that ran and whose answer was lost changes nothing when it runs again.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = Redis(connection_pool=pool)
        self._script = self._redis.register_script(_SCRIPT)

    async def reserve(
        self,
        call: str,
        attempt: str,
        specs: Sequence[Spec],
        amounts: Mapping[str, int],
        *,
        now_ms: int,
        repeats: bool,
    ) -> Reply:
        """Hold amounts by unit for a try of a call, or nothing where a limit refuses it.

        `attempt` is an id of its own. `repeats`: there may be more tries of this call.
        Raises StoreLost.
        """
        return await self._run(
            call=call,
            specs=specs,
            amounts=amounts,
            now=now_ms,
            repeats=repeats,
            is_settling=False,
            **{"try": attempt},
        )

    async def settle(
        self,
        call: str,
        attempt: str,
        specs: Sequence[Spec],
        amounts: Mapping[str, int],
        *,
        now_ms: int,
        repeats: bool,
    ) -> None:
        """Put what a try has used in place of what it held. More than once is once.

        Raises StoreLost.
        """
        await self._run(
            call=call,
            specs=specs,
            amounts=amounts,
            now=now_ms,
            repeats=repeats,
            is_settling=True,
            **{"try": attempt},
        )

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._redis.aclose(close_connection_pool=True)

    async def _run(self, **asked: Any) -> Reply:
        constants = {
            "prefix": _PREFIX,
            "open": OPEN_MS,
            "repeated": REPEATED_MS,
            "settled": _SETTLED_MS,
            "most": MAX_TRIES,
        }
        packed = msgspec.msgpack.encode({**constants, **asked})
        try:
            answer = await self._script(args=[packed])
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreLost from error
        return msgspec.msgpack.decode(answer, type=Reply)


_stores: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, LimitStore]]" = WeakKeyDictionary()


def limit_store(url: str) -> LimitStore:
    """Return this event loop's store in the Redis at `url`."""
    of_loop = _stores.setdefault(asyncio.get_running_loop(), {})
    if url not in of_loop:
        of_loop[url] = LimitStore(url)
    return of_loop[url]


async def close_stores() -> None:
    """Close what this event loop has open."""
    for store in _stores.pop(asyncio.get_running_loop(), {}).values():
        await store.close()
