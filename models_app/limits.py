"""Limits of use: what a request may take is reserved before it runs and settled after.

    charge = await reserve(principal, tokens=estimate, model=name)   # RateLimited, QuotaExceeded, …
    charge.use(tokens)                                               # … as they are used
    charge.settle()                                                  # exactly once counts

All limits of a request hold together; `models_app.limit_book` knows which they are. Limits of a
minute refill all the time; those of a day or a month begin anew at midnight UTC; what may be under
way at once is there again when a request ends. Without any limit Redis is not asked.

What is used beyond what was reserved is reserved as it is used. Where a day or a month has no more,
the request is ended; a minute is owed it, and a request for more than a limit allows at all is let
in alone.

When Redis is lost nothing can be counted, so nothing is let through: but for the first few requests
of every process, which get over a restart. Those are counted as soon as Redis is back.
What a Redis that comes back empty knows no more is read from the ledger
(`models_app.limit_rebuild`). How the counting is done is known by `models_app.limit_store` alone.
Knows no HTTP, no engine and no prompt.
"""

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings

from models_app import limit_book, limit_rebuild
from models_app.errors import (
    LimitReached,
    LimitsUnavailable,
    QuotaExceeded,
    RateLimited,
    TooManyAtOnce,
)
from models_app.limit_headers import anthropic_headers, openai_headers
from models_app.limit_kinds import Limit, Unit, model_subject, period_of
from models_app.limit_store import (
    Attempt,
    LimitStore,
    Past,
    PastUnknown,
    Spec,
    State,
    StoreLost,
    close_stores,
    limit_store,
)
from models_app.names import ModelName
from models_app.permissions import Principal
from ollamasite import meters, outages
from ollamasite.error_responses import Dialect

# Requests in a row that a process lets through uncounted while Redis does not answer.
GRACE_REQUESTS: Final = 16
# How many tokens more are reserved at a time, and with how many left.
MORE_TOKENS: Final = 128
_MARGIN_TOKENS: Final = MORE_TOKENS // 2
_NOTHING: Final[Mapping[str, int]] = {}
# How long the end of an answer waits for its settlement, so that the next request finds it done.
_WAIT_S: Final = 0.25


class Charge:
    """What one request holds. Whoever reserved it says what is used and settles it.

    `request_id` is one of the request's own, with and without limits: the ledger's. `headers` tell
    the client what is left. All methods must be called on the event loop.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        bill: "_Bill | None",
        request_id: str = "",
        granted_tokens: float = math.inf,
    ) -> None:
        self.request_id = bill.attempt.attempt if bill is not None else request_id
        self.headers = headers
        self.used_tokens = 0
        self._granted_tokens = granted_tokens
        self._bill = bill
        self._when_settled: Callable[[], None] = _do_nothing
        self._when_exceeded: Callable[[LimitReached], None] | None = None
        self._exceeded: LimitReached | None = None
        self._asking: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None

    def record(self) -> dict[str, Any] | None:
        """Return, as JSON, what `settle_record` needs should this process die; None: nothing."""
        if self._bill is None:
            return None
        found: dict[str, Any] = msgspec.to_builtins(self._bill.attempt)
        return found

    def tell_settled(self, when_settled: Callable[[], None]) -> None:
        """Have somebody told when it is settled, and no process needs its record any more."""
        self._when_settled = when_settled

    def tell_exceeded(self, when_exceeded: Callable[[LimitReached], None]) -> None:
        """Have somebody told that a day or a month is used up, who then ends the request."""
        self._when_exceeded = when_exceeded
        self._end_exceeded()

    def use(self, tokens: int) -> None:
        """Count tokens as used; reserve more where they may not be enough."""
        self.used_tokens += tokens
        self._end_exceeded()
        is_short = self.used_tokens > self._granted_tokens - _MARGIN_TOKENS
        if is_short and self._bill is not None and not (self._asking or self._settling):
            self._asking = _in_background(self._reserve_more(self._bill))

    def settle(self) -> None:
        """Count what was used in place of what was held, from now on and in the background.

        Only the first call counts.
        """
        self._settle(_amounts(self.used_tokens))

    def give_back(self) -> None:
        """Settle as if nothing was asked."""
        self._settle(_NOTHING)

    async def settle_soon(self) -> None:
        """Settle, and wait a moment for it: the client's next request shall find it done."""
        self.settle()
        if self._settling is not None:
            await asyncio.wait([self._settling], timeout=_WAIT_S)

    def _settle(self, amounts: Mapping[str, int]) -> None:
        if self._bill is not None and self._settling is None:
            self._settling = _in_background(self._bill.settle(amounts, self._tell_settled))

    def _tell_settled(self) -> None:
        self._when_settled()

    async def _reserve_more(self, bill: "_Bill") -> None:
        """Reserve what was used and some more; what waits for that is not refused any more."""
        wanted = self.used_tokens + MORE_TOKENS
        try:
            reply = await bill.store.resume(bill.attempt, _amounts(wanted), now_ms=_now_ms())
        except StoreLost:
            self._granted_tokens = wanted  # what is under way goes on
        else:
            over = [state for state in reply.states if state.wait > 0 and state.spec.ends]
            if over:
                self._exceeded = _refusal_of(over, self.headers)
                self._end_exceeded()
                return  # it asks no more
            self._granted_tokens = wanted
        self._asking = None
        self.use(0)

    def _end_exceeded(self) -> None:
        """End the request once it has used all that it was granted, and there is no more."""
        is_due = self._exceeded is not None and self.used_tokens >= self._granted_tokens
        if is_due and self._when_exceeded is not None and self._exceeded is not None:
            self._when_exceeded(self._exceeded)
            self._when_exceeded = None


def _do_nothing() -> None:
    """Nobody wants to know."""


_tasks: set[asyncio.Task[None]] = set()


def _in_background(doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Do something that `close` waits for."""
    task = asyncio.create_task(doing)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


@dataclass(frozen=True, slots=True)
class _Bill:
    """A try of a call, and where it is counted."""

    store: LimitStore
    attempt: Attempt

    async def settle(self, amounts: Mapping[str, int], when_settled: Callable[[], None]) -> None:
        """Settle it now; where Redis stays away, the store does when it is back."""
        try:
            await self.store.settle(
                self.attempt, amounts, now_ms=_now_ms(), when_settled=when_settled
            )
        except StoreLost as error:
            _note(error)  # the tokens are counted later


async def reserve(
    principal: Principal,
    *,
    tokens: int,
    model: str = "",
    same_call: str = "",
    dialect: Dialect = Dialect.NATIVE,
) -> Charge:
    """Hold one request and some tokens, at most as many as each limit allows at all.

    `model` is its full name. Requests with one text `same_call` are tries of one call: it counts
    once, with the tokens of the dearest try. Empty: a call of its own. `dialect`: in whose words
    headers are. Raises RateLimited, QuotaExceeded, TooManyAtOnce, LimitsUnavailable.
    """
    attempt = secrets.token_hex(12)
    models = (model_subject(ModelName.parse(model)),) if model else ()
    limits = (await _rules()).limits_of(principal, models)
    if not limits:
        return Charge({}, None, attempt)
    now_ms = _now_ms()
    named = Attempt(
        call=_call_id(principal, same_call) if same_call else attempt,
        attempt=attempt,
        specs=tuple(limit.spec(now_ms) for limit in limits),
        repeats=bool(same_call),
    )
    bill = _Bill(_store(), named)
    return await _reserve(bill, min([tokens, *_least(limits, Unit.TOKENS)]), now_ms, dialect)


async def _reserve(bill: _Bill, tokens: int, now_ms: int, dialect: Dialect) -> Charge:
    granted_tokens = _granted(bill.attempt.specs, tokens)
    try:
        reply = await bill.store.reserve(bill.attempt, _amounts(tokens), now_ms=now_ms)
    except StoreLost as error:
        _note(error)
        if _grace.take():
            bill.store.let_in(bill.attempt, _amounts(tokens), now_ms=now_ms)
            return Charge({}, bill, granted_tokens=granted_tokens)
        bill.store.give_up(bill.attempt)  # whether it was reserved is not known
        raise LimitsUnavailable from error
    except asyncio.CancelledError:
        Charge({}, bill).give_back()  # nor here
        raise
    _grace.restore()
    headers = openai_headers(reply.states)
    if dialect is Dialect.ANTHROPIC:
        headers |= anthropic_headers(reply.states, now_ms)
    over = [state for state in reply.states if state.wait > 0]
    if over:
        raise _refusal_of(over, headers)
    bill = replace(bill, attempt=msgspec.structs.replace(bill.attempt, call=reply.call))
    return Charge(headers, bill, granted_tokens=granted_tokens)


def _granted(specs: Iterable[Spec], tokens: int) -> float:
    """Return how many tokens may be used before more have to be reserved: where none count, all."""
    return tokens if any(spec.unit == Unit.TOKENS for spec in specs) else math.inf


async def settle_record(
    record: Mapping[str, Any], *, used_tokens: int, ended_ms: int | None
) -> bool:
    """Settle what a process held that has died, from its `Charge.record`; return whether it is.

    Twice within two hours counts once. `ended_ms` is when it ended or, where that was later, when
    its row was written; None: its row says that it is lost.
    """
    attempt = msgspec.convert(record, Attempt)
    amounts = _amounts(used_tokens)
    try:
        await _store().settle_for(attempt, amounts, now_ms=_now_ms(), ended_ms=ended_ms)
    except StoreLost as error:
        _note(error)  # a dead process's tokens are counted later
        return False
    return True


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit and what it leaves; `resets_ms`: until all of it is there, from `now_ms` on."""

    limit: Limit
    remaining: int
    resets_ms: int
    now_ms: int


async def look(principal: Principal, models: Sequence[str] = ()) -> list[LimitState]:
    """Return what every limit leaves that concerns a principal, asked for models by full name.

    Changes nothing. Raises LimitsUnavailable.
    """
    subjects = tuple(model_subject(ModelName.parse(name)) for name in models)
    limits = (await _rules()).limits_of(principal, subjects)
    now_ms = _now_ms()
    if not limits:
        return []
    try:
        states = await _store().look([limit.spec(now_ms) for limit in limits], now_ms=now_ms)
    except StoreLost as error:
        raise LimitsUnavailable from error
    return [
        LimitState(limit, state.remaining, state.reset, now_ms)
        for limit, state in zip(limits, states, strict=True)
    ]


async def close() -> None:
    """Wait for what this event loop still has to settle, and close its connections."""
    loop = asyncio.get_running_loop()
    own = [task for task in _tasks if task.get_loop() is loop]
    if own:
        await asyncio.wait(own)
    await close_stores()


class _Grace:
    """How many requests in a row went through uncounted. One for the process."""

    def __init__(self) -> None:
        self._used = 0

    def take(self) -> bool:
        """Return whether one more is let through."""
        if self._used >= GRACE_REQUESTS:
            return False
        self._used += 1
        return True

    def restore(self) -> None:
        """Redis has answered."""
        self._used = 0
        outages.redis.ends()
        outages.ledger.ends()


_grace: Final = _Grace()


def _note(error: StoreLost) -> None:
    """Have it told, once for each time."""
    outage = outages.ledger if isinstance(error, PastUnknown) else outages.redis
    outage.begins(error.__cause__ or error.reason)


async def _rules() -> limit_book.RuleBook:
    return limit_book.known_rules() or await sync_to_async(limit_book.read_rules)()


def _store() -> LimitStore:
    return limit_store(settings.REDIS_URL, _past_of, _now_ms)


async def _past_of(spec: Spec, born_ms: int, now_ms: int) -> Past:
    return await limit_rebuild.past_of(spec, born_ms, now_ms)


def _amounts(tokens: int) -> dict[str, int]:
    return {Unit.REQUESTS.value: 1, Unit.TOKENS.value: tokens, Unit.PARALLEL.value: 1}


def _least(limits: Iterable[Limit], unit: Unit) -> list[int]:
    return [limit.amount for limit in limits if limit.unit is unit]


def _call_id(principal: Principal, same_call: str) -> str:
    text = f"{principal.user_id} {same_call}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _refusal_of(over: Sequence[State], headers: Mapping[str, str]) -> LimitReached:
    """Return the refusal by the limit that is over for the longest, of those that are over."""
    worst = max(over, key=lambda state: state.wait)
    _count_refusal(worst.spec)
    return _refusal(worst.spec)(
        worst.spec.name, worst.spec.amount, wait_ms=worst.wait, headers=headers
    )


def _count_refusal(spec: Spec) -> None:
    meters.limit_refused(of=spec.subject.partition(":")[0], unit=spec.unit, period=period_of(spec))


def _refusal(spec: Spec) -> type[LimitReached]:
    if spec.unit == Unit.PARALLEL:
        return TooManyAtOnce
    return RateLimited if spec.period else QuotaExceeded
