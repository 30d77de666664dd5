"""Where the use of limits is counted: one Lua script in Redis, so that every change is atomic.

Every limit has a bucket. A bucket with a *period* is a queue that drains from its front, as much
as the limit allows in a period: what has drained is forgotten. A bucket with an *end* is a sum that
only its end forgets. A bucket with neither has *slots*, which are taken while a try is open. A
*call* is what is counted once; it may be tried several times. While a try is open it holds what
was reserved for it; a call holds the most that any of its tries holds or has used, and a slot for
each that is open. Whatever changes that is added to the buckets, or given back as far as it has
not drained. Every store is a *holder* with a lease, which it renews while tries of its own are
open: the slots of one whose lease has ended are free until it is renewed.

    ollamasite:limits:epoch                              since when this Redis counts
    ollamasite:limits:calls                              the number of the last call
    ollamasite:limits:bucket:<key of the limit>          MessagePack: at, sum, queue of call and
                                                         amount, slots by holder
    ollamasite:limits:known:<key of the limit>           set of tries that were told with the past
    ollamasite:limits:call:<id>                          MessagePack: tries, charges, settled
    ollamasite:limits:open                               sorted set: "<call> <try>" by its end
    ollamasite:limits:holders                            sorted set: holders by the lease's end

A try that nobody settles ends by itself when its holder has not resumed it for an hour, and gives
back what it held; one that is settled after that still counts. A sum that is not there (Redis was
lost, a day is new, a limit is new) begins with what `Pasts` tells of it, once for all stores; so
does a queue while Redis has been there for less than its period. Tries that were open when Redis
was lost are resumed by whoever holds them; what could not be settled is settled when there is a
Redis again, and whether it was told meanwhile is known by when it has ended. Times are milliseconds
since 1970 by the caller's clock: a clock that goes back drains nothing. Keys are found by the
script itself, so a Redis cluster will not do. Knows nothing of users, settings and answers.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from models_app.limit_script import SCRIPT

_TIMEOUT_S: Final = 1.0
_MAX_CONNECTIONS: Final = 16
PREFIX: Final = "ollamasite:limits:"

# How long a try stays open that nobody resumes, and how often its holder does.
OPEN_MS: Final = 60 * 60 * 1000
RESUMED_MS: Final = OPEN_MS // 2
# How long a holder is believed to be alive, and how often it says so.
LEASE_MS: Final = 15 * 1000
RENEWED_MS: Final = 10 * 1000  # what may be left of it before that changes anything
_BEAT_S: Final = 1.0
# When to ask again for a slot: nobody knows when the next one is free.
_SLOT_MS: Final = 1000
# How long tries are taken for the same call, and how many: one key for ever would be no limit.
REPEATED_MS: Final = 24 * 60 * 60 * 1000
MAX_TRIES: Final = 3
# How long a settled try is remembered, so that settling it again changes nothing: a recovery does.
_SETTLED_MS: Final = 2 * 60 * 60 * 1000
# What had ended so long before the past was told is in it; what ended later is named in it.
WRITTEN_LATE_MS: Final = 60 * 1000
# How long nobody may use any limit before everything is forgotten.
_EPOCH_MS: Final = 40 * 24 * 60 * 60 * 1000
# How long one use waits for the past to be told, and how often.
_PAST_S: Final = 2.0
_PASTS_IN_A_ROW: Final = 4
# How many tries wait to be given up of which nobody knows whether Redis has heard: more than ever
# wait for its answer. The first are the likely ones; the others end by themselves if they must.
_MOST_DOUBTFUL: Final = 2_000
_CLOSE_S: Final = 3.0

_CONSTANTS: Final = {
    "prefix": PREFIX,
    "open": OPEN_MS,
    "lease": LEASE_MS,
    "renewed": RENEWED_MS,
    "slot": _SLOT_MS,
    "repeated": REPEATED_MS,
    "settled": _SETTLED_MS,
    "late": WRITTEN_LATE_MS,
    "epoch": _EPOCH_MS,
    "most": MAX_TRIES,
}


class StoreLost(Exception):
    """Nothing can be counted: Redis does not answer."""

    reason = "Redis does not answer"


class PastUnknown(StoreLost):
    """Redis answers, but not who knows what was used before it was lost or a limit was new."""

    reason = "the ledger has not told what was used before"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One limit as the store knows it.

    `amount` of a `unit` may be used: in every `period` of milliseconds, or, where that is 0, from
    `begins` until `ends`, or, where these are 0 too, at the same time. Limits of one key share a
    bucket. `name` is for people, `subject` for who tells the past.
    """

    key: str
    name: str
    unit: str
    amount: int
    period: int = 0
    ends: int = 0
    begins: int = 0
    subject: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A try of a call, by ids. `repeats`: there may be more tries of this call."""

    call: str
    attempt: str
    specs: tuple[Spec, ...]
    repeats: bool = False

    def words(self, amounts: Mapping[str, int]) -> dict[str, Any]:
        """Return what is asked about it; amounts are by unit."""
        words = {"call": self.call, "specs": self.specs, "repeats": self.repeats}
        return {**words, "try": self.attempt, "amounts": amounts}


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a limit leaves. Milliseconds: `reset` until all of it is there, `wait` until enough is.

    A `wait` above 0 means that the try was refused because of this limit.
    """

    spec: Spec
    remaining: int
    reset: int
    wait: int


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What had been used of a limit that Redis knows nothing of.

    `fill` is in units, for a limit with a period in units times milliseconds of it. `tries` are
    the ones in it that may still be settled: they are not counted a second time.
    """

    spec: Spec
    fill: int = 0
    tries: list[str] = []


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """`call` is the id under which the try was counted. `missing`: nothing was done yet."""

    call: str
    states: list[State]
    missing: list[Spec]
    born: int  # since when this Redis counts


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A reply as the script gives it: limits in the order of the question, or by their keys."""

    call: str
    states: list[tuple[int, int, int]]  # remaining, reset, wait
    missing: list[str]
    specs: list[Spec]
    born: int


# Of one limit, at a time; `born` is when Redis was found empty.
Pasts: TypeAlias = Callable[[Spec, int, int], Awaitable[Past]]


async def no_past(spec: Spec, born_ms: int, now_ms: int) -> Past:
    """Return that nothing was used."""
    return Past(spec=spec)


class _Held(NamedTuple):
    """What a try holds, in which Redis, and when that was said last."""

    attempt: Attempt
    amounts: Mapping[str, int]
    born: int
    at_ms: int


# By try: what is asked, and who is told that it was done.
_Owed: TypeAlias = dict[str, tuple[dict[str, Any], Callable[[], None]]]


def _do_nothing() -> None:
    """Nobody waits for it."""


class LimitStore:
    """The counters in one Redis. Belongs to one event loop.

    `pasts` tells what was used before. With a clock, in milliseconds, what has to be said again
    and again is said in the background while tries are open.
    """

    def __init__(
        self, url: str, pasts: Pasts = no_past, clock_ms: Callable[[], int] | None = None
    ) -> None:
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
        self._script = self._redis.register_script(SCRIPT)
        self._pasts = pasts
        self._clock_ms = clock_ms
        self._holder = secrets.token_hex(8)
        self._open: dict[str, _Held] = {}
        # What is settled when there is a Redis again. Only so much is owed as was let in; what is
        # refused meanwhile is doubtful.
        self._owed: _Owed = {}
        self._doubtful: _Owed = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._beats: asyncio.Task[None] | None = None

    async def reserve(self, attempt: Attempt, amounts: Mapping[str, int], *, now_ms: int) -> Reply:
        """Hold amounts by unit for a try, or nothing where a limit refuses it. Raises StoreLost."""
        reply = await self._ask("reserve", now_ms, attempt.words(amounts))
        if reply.states and not any(state.wait for state in reply.states):
            self._hold(msgspec.structs.replace(attempt, call=reply.call), amounts, reply, now_ms)
        return reply

    async def resume(self, attempt: Attempt, amounts: Mapping[str, int], *, now_ms: int) -> Reply:
        """Hold other amounts for a try that was let in, also where that is too much.

        The waits tell for which limits it is. Raises StoreLost.
        """
        reply = await self._ask("resume", now_ms, attempt.words(amounts))
        if attempt.attempt in self._open:  # it has not ended meanwhile
            self._hold(attempt, amounts, reply, now_ms)
        return reply

    def let_in(self, attempt: Attempt, amounts: Mapping[str, int], *, now_ms: int) -> None:
        """Hold amounts for a try as soon as there is a Redis again."""
        self._open[attempt.attempt] = _Held(attempt, amounts, 0, now_ms)
        self._begin_beats()

    async def settle(
        self,
        attempt: Attempt,
        amounts: Mapping[str, int],
        *,
        now_ms: int,
        when_settled: Callable[[], None] = _do_nothing,
    ) -> None:
        """Put what a try has used in place of what it held, now that it ends. Twice is once.

        Raises StoreLost; then it is settled when there is a Redis again, unless `close` comes
        first.
        """
        self._open.pop(attempt.attempt, None)
        self._owed[attempt.attempt] = {**attempt.words(amounts), "ended": now_ms}, when_settled
        try:
            await self._settle_owed(self._owed, attempt.attempt, now_ms)
        except StoreLost:
            self._begin_beats()
            raise

    async def settle_for(
        self, attempt: Attempt, amounts: Mapping[str, int], *, now_ms: int, ended_ms: int | None
    ) -> None:
        """Settle a try of a process that has died; not later if not now. Raises StoreLost.

        `ended_ms` is when it ended or, where that was later, was written down; None: nobody knows,
        and where the past was told with it, it was named.
        """
        asked = attempt.words(amounts)
        if ended_ms is not None:
            asked["ended"] = ended_ms
        await self._ask("settle", now_ms, asked)

    def give_up(self, attempt: Attempt) -> None:
        """Give back, when there is a Redis again, what it may have held for a try."""
        if len(self._doubtful) < _MOST_DOUBTFUL:
            self._doubtful[attempt.attempt] = attempt.words({}), _do_nothing
            self._begin_beats()

    async def look(self, specs: Sequence[Spec], *, now_ms: int) -> list[State]:
        """Return what limits leave. Raises StoreLost."""
        return (await self._ask("look", now_ms, {"specs": specs})).states

    async def renew(self, *, now_ms: int) -> None:
        """Say that this holder is alive, and make good what a lost Redis has missed.

        Raises StoreLost.
        """
        born = (await self._ask("renew", now_ms, {})).born
        await self._settle_all(self._owed, now_ms)
        for held in list(self._open.values()):
            if held.born != born or now_ms - held.at_ms >= RESUMED_MS:
                with suppress(PastUnknown):
                    await self.resume(held.attempt, held.amounts, now_ms=now_ms)
        await self._settle_all(self._doubtful, now_ms)

    async def close(self) -> None:
        """Settle what can be, and close the connections; a later call opens new ones."""
        if self._beats is not None:
            self._beats.cancel()
        if self._clock_ms is not None and (self._owed or self._doubtful):
            with suppress(StoreLost, TimeoutError):
                await asyncio.wait_for(self.renew(now_ms=self._clock_ms()), _CLOSE_S)
        tasks = [*self._telling.values(), *filter(None, [self._beats])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._redis.aclose(close_connection_pool=True)

    def _hold(
        self, attempt: Attempt, amounts: Mapping[str, int], reply: Reply, now_ms: int
    ) -> None:
        self._open[attempt.attempt] = _Held(attempt, amounts, reply.born, now_ms)
        self._begin_beats()

    async def _settle_all(self, owed: _Owed, now_ms: int) -> None:
        """Settle one after another; those of whose limits the past is not known have to wait."""
        for attempt in list(owed):
            with suppress(PastUnknown):
                await self._settle_owed(owed, attempt, now_ms)

    async def _settle_owed(self, owed: _Owed, attempt: str, now_ms: int) -> None:
        asked, when_settled = owed.get(attempt, (None, _do_nothing))
        if asked is None:
            return  # meanwhile somebody else has
        await self._ask("settle", now_ms, asked)
        if owed.pop(attempt, None):
            when_settled()

    def _begin_beats(self) -> None:
        if self._clock_ms is not None and (self._beats is None or self._beats.done()):
            self._beats = asyncio.create_task(self._beat(self._clock_ms))

    async def _beat(self, clock_ms: Callable[[], int]) -> None:
        while self._open or self._owed or self._doubtful:
            await asyncio.sleep(_BEAT_S)
            with suppress(StoreLost):
                await self.renew(now_ms=clock_ms())

    async def _ask(self, operation: str, now_ms: int, asked: Mapping[str, Any]) -> Reply:
        """Return what the script answers, once the past is told that it lacks."""
        for _ in range(_PASTS_IN_A_ROW):
            reply = await self._run(operation, now_ms, asked)
            if not reply.missing:
                return reply
            await self._tell(reply, now_ms)
            if self._clock_ms is not None:  # that may have taken a second
                now_ms = max(now_ms, self._clock_ms())
        raise PastUnknown

    async def _run(self, operation: str, now_ms: int, asked: Mapping[str, Any]) -> Reply:
        words = {**asked, "op": operation, "now": now_ms, "holder": self._holder}
        try:
            answer = await self._script(args=[pack(words)])
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreLost from error
        return unpack(answer, asked.get("specs", ()))

    async def _tell(self, reply: Reply, now_ms: int) -> None:
        """Tell the past of what is missing: each limit's once, whoever waits for it."""
        tasks = [self._teller(spec, reply.born, now_ms) for spec in reply.missing]
        done, waiting = await asyncio.wait(tasks, timeout=_PAST_S)
        if waiting:
            raise PastUnknown
        _raise_first(done)

    def _teller(self, spec: Spec, born_ms: int, now_ms: int) -> "asyncio.Task[None]":
        task = self._telling.get(spec.key)
        if task is None or task.done():
            task = asyncio.create_task(self._tell_one(spec, born_ms, now_ms))
            self._telling[spec.key] = task
            task.add_done_callback(lambda ended: self._forget(spec.key, ended))
        return task

    def _forget(self, key: str, ended: "asyncio.Task[None]") -> None:
        if not ended.cancelled():
            ended.exception()  # those who waited have it, if somebody still did
        if self._telling.get(key) is ended:
            del self._telling[key]

    async def _tell_one(self, spec: Spec, born_ms: int, now_ms: int) -> None:
        past = await self._pasts(spec, born_ms, now_ms)
        await self._run("tell", now_ms, {"pasts": [past]})


def pack(words: Mapping[str, Any]) -> bytes:
    """Return what the script is asked: an operation, the caller's holder and clock, the rest."""
    if "specs" in words:
        words = {**words, "specs": [_in_short(spec) for spec in words["specs"]]}
    return msgspec.msgpack.encode({**_CONSTANTS, **words})


def unpack(answer: bytes, specs: Sequence[Spec]) -> Reply:
    """Return the script's answer to a question about limits. Raises StoreLost.

    A call that is known has the limits that it was counted with first.
    """
    read = msgspec.msgpack.decode(answer, type=_Answer)
    by_key = {spec.key: spec for spec in specs}
    if any(key not in by_key for key in read.missing):
        raise PastUnknown  # somebody has removed some keys from Redis, and not others
    states = [
        State(spec=spec, remaining=remaining, reset=reset, wait=wait)
        for spec, (remaining, reset, wait) in zip(read.specs or specs, read.states, strict=False)
    ]
    missing = [by_key[key] for key in read.missing]
    return Reply(call=read.call, states=states, missing=missing, born=read.born)


def _in_short(spec: Spec) -> dict[str, Any]:
    """Return what the script needs of a limit, and what a later try of the call is told by."""
    return {
        "key": spec.key,
        "name": spec.name,
        "unit": spec.unit,
        "amount": spec.amount,
        "period": spec.period,
        "ends": spec.ends,
    }


def _raise_first(tasks: "Iterable[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.result()


_stores: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, LimitStore]]" = WeakKeyDictionary()


def limit_store(url: str, pasts: Pasts, clock_ms: Callable[[], int]) -> LimitStore:
    """Return this event loop's store in the Redis at `url`."""
    of_loop = _stores.setdefault(asyncio.get_running_loop(), {})
    if url not in of_loop:
        of_loop[url] = LimitStore(url, pasts, clock_ms)
    return of_loop[url]


async def close_stores() -> None:
    """Close what this event loop has open."""
    for store in _stores.pop(asyncio.get_running_loop(), {}).values():
        await store.close()
