"""Limits of use: what a request may take is reserved before it runs and settled after.

    charge = await reserve(principal, tokens=estimate, model=name)   # RateLimited, QuotaExceeded, …
    …                                                                # charge.used_tokens grows
    charge.settle()                                                  # exactly once counts

All limits of a request hold together; `models_app.limit_book` knows which they are. Limits of a
minute refill all the time; those of a day or a month begin anew at midnight UTC; what may be under
way at once is there again when a request ends. Without any limit Redis is not asked.

When Redis is lost nothing can be counted, so nothing is let through: but for the first few requests
of every process, which get over a restart. Those are still counted if Redis is back when they end.
What a Redis that comes back empty knows no more is read from the ledger
(`models_app.limit_rebuild`). How the counting is done is known by `models_app.limit_store` alone.
Knows no HTTP, no engine and no prompt.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
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
from models_app.limit_kinds import Limit, Unit, model_subject
from models_app.limit_store import (
    LimitStore,
    Past,
    Spec,
    State,
    StoreLost,
    close_stores,
    limit_store,
)
from models_app.names import ModelName
from models_app.permissions import Principal
from ollamasite.error_responses import Dialect

logger = logging.getLogger(__name__)

# Requests in a row that a process lets through uncounted while Redis does not answer.
GRACE_REQUESTS: Final = 16
# Pauses between attempts to settle while Redis does not answer.
_SETTLE_PAUSES_S: Final = (0.0, 1.0, 4.0)
_NOTHING: Final[Mapping[str, int]] = {}
# How long the end of an answer waits for its settlement, so that the next request finds it done.
_WAIT_S: Final = 0.25


class Charge:
    """What one request holds. Whoever reserved it adds to `used_tokens` and settles it.

    `request_id` is one of the request's own, with and without limits: the ledger's. `headers` tell
    the client what is left.
    """

    def __init__(
        self, headers: Mapping[str, str], bill: "_Bill | None", request_id: str = ""
    ) -> None:
        self.request_id = bill.attempt if bill is not None else request_id
        self.headers = headers
        self.used_tokens = 0
        self._bill = bill
        self._settling: asyncio.Task[None] | None = None

    def record(self) -> dict[str, Any] | None:
        """Return, as JSON, what `settle_record` needs should this process die; None: nothing."""
        return None if self._bill is None else self._bill.record()

    def settle(self) -> None:
        """Count what was used in place of what was held, from now on and in the background.

        Only the first call counts. Must be called on the event loop.
        """
        if self._bill is None or self._settling is not None:
            return
        self._begin(_settle(self._bill, _amounts(self.used_tokens)))

    def give_back(self) -> None:
        """Settle as if nothing was asked. Must be called on the event loop."""
        if self._bill is not None and self._settling is None:
            self._begin(_settle(self._bill, _NOTHING))

    async def settle_soon(self) -> None:
        """Settle, and wait a moment for it: the client's next request shall find it done."""
        self.settle()
        if self._settling is not None:
            await asyncio.wait([self._settling], timeout=_WAIT_S)

    def _begin(self, settling: Coroutine[Any, Any, None]) -> None:
        self._settling = asyncio.create_task(settling)
        _open_settlements.add(self._settling)
        self._settling.add_done_callback(_open_settlements.discard)


_open_settlements: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bill:
    """A try of a call, as the store knows it."""

    store: LimitStore
    call: str
    attempt: str
    specs: tuple[Spec, ...]
    repeats: bool

    def record(self) -> dict[str, Any]:
        named = {"call": self.call, "attempt": self.attempt, "repeats": self.repeats}
        return {**named, "specs": msgspec.to_builtins(self.specs)}

    async def settle(self, amounts: Mapping[str, int]) -> None:
        """Raises StoreLost."""
        await self.store.settle(
            self.call,
            self.attempt,
            self.specs,
            amounts,
            now_ms=_now_ms(),
            repeats=self.repeats,
        )


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
    bill = _Bill(
        store=_store(),
        call=_call_id(principal, same_call) if same_call else attempt,
        attempt=attempt,
        specs=tuple(limit.spec(now_ms) for limit in limits),
        repeats=bool(same_call),
    )
    return await _reserve(bill, min([tokens, *_least(limits, Unit.TOKENS)]), now_ms, dialect)


async def _reserve(bill: _Bill, tokens: int, now_ms: int, dialect: Dialect) -> Charge:
    try:
        reply = await bill.store.reserve(
            bill.call,
            bill.attempt,
            bill.specs,
            _amounts(tokens),
            now_ms=now_ms,
            repeats=bill.repeats,
        )
    except StoreLost as error:
        charge = Charge({}, bill)
        if _grace.take(error):
            return charge
        charge.give_back()  # whether it was reserved is not known
        raise LimitsUnavailable from error
    except asyncio.CancelledError:
        Charge({}, bill).give_back()  # nor here
        raise
    _grace.restore()
    headers = openai_headers(reply.states)
    if dialect is Dialect.ANTHROPIC:
        headers |= anthropic_headers(reply.states, now_ms)
    _refuse(reply.states, headers)
    return Charge(headers, replace(bill, call=reply.call))


async def settle_record(record: Mapping[str, Any], *, used_tokens: int) -> bool:
    """Settle what a process held that has died, from its `Charge.record`; return whether it is.

    Twice within a minute counts once; later it does not: whoever calls this knows it was not done.
    """
    bill = _Bill(
        store=_store(),
        call=record["call"],
        attempt=record["attempt"],
        specs=msgspec.convert(record["specs"], tuple[Spec, ...]),
        repeats=record["repeats"],
    )
    try:
        await bill.settle(_amounts(used_tokens))
    except StoreLost as error:
        logger.warning("a dead process's tokens could not be counted", exc_info=error)
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
    own = [task for task in _open_settlements if task.get_loop() is loop]
    if own:
        await asyncio.wait(own)
    await close_stores()


class _Grace:
    """How many requests in a row went through uncounted. One for the process."""

    def __init__(self) -> None:
        self._used = 0

    def take(self, error: StoreLost) -> bool:
        """Return whether one more is let through."""
        if self._used >= GRACE_REQUESTS:
            return False
        self._used += 1
        logger.warning("limits cannot be counted: Redis does not answer", exc_info=error)
        return True

    def restore(self) -> None:
        """Redis has answered."""
        self._used = 0


_grace: Final = _Grace()


async def _settle(bill: _Bill, amounts: Mapping[str, int]) -> None:
    """Settle now or a little later; where Redis stays away, the store does when it is back."""
    for pause_s in _SETTLE_PAUSES_S:
        await asyncio.sleep(pause_s)
        try:
            await bill.settle(amounts)
        except StoreLost as error:
            logger.warning("tokens could not be counted: Redis does not answer", exc_info=error)
        else:
            return


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


def _refuse(states: Sequence[State], headers: Mapping[str, str]) -> None:
    """Raise for the limit that is over for the longest, if one is."""
    worst = max(states, key=lambda state: state.wait, default=None)
    if worst is None or worst.wait <= 0:
        return
    raise _refusal(worst.spec)(
        worst.spec.name, worst.spec.amount, wait_ms=worst.wait, headers=headers
    )


def _refusal(spec: Spec) -> type[LimitReached]:
    if spec.unit == Unit.PARALLEL:
        return TooManyAtOnce
    return RateLimited if spec.period else QuotaExceeded
