"""Limits of use: what a request may take is reserved before it runs and settled after.

    charge = await reserve(principal, tokens=estimate)   # RateLimited, QuotaExceeded
    …                                                    # charge.used_tokens grows
    charge.settle()                                      # exactly once counts

All limits of a request hold together. Today they are the site's settings, for each user; whoever
adds keys, teams or models adds lines to `limits_of`. Limits of a minute refill all the time; those
of a day begin anew at midnight UTC. Without any limit Redis is not asked.

When Redis is lost nothing can be counted, so nothing is let through: but for the first few requests
of every process, which get over a restart. Those are still counted if Redis is back when they end.
How the counting is done is known by `models_app.limit_store` alone. Knows no HTTP but for names of
headers, no engine and no prompt.
"""

import asyncio
import enum
import hashlib
import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from django.conf import settings

from models_app.errors import LimitsUnavailable, QuotaExceeded, RateLimited
from models_app.limit_store import (
    LimitStore,
    Spec,
    State,
    StoreLost,
    close_stores,
    limit_store,
)
from models_app.permissions import Principal

logger = logging.getLogger(__name__)

# Requests in a row that a process lets through uncounted while Redis does not answer.
GRACE_REQUESTS: Final = 16
# As large as the store can count exactly.
MOST: Final = 10**11
_SECOND_MS: Final = 1000
_DAY_MS: Final = 24 * 60 * 60 * _SECOND_MS
# Pauses between attempts to settle while Redis does not answer.
_SETTLE_PAUSES_S: Final = (0.0, 1.0, 4.0)
# How long the end of an answer waits for its settlement, so that the next request finds it done.
_WAIT_S: Final = 0.25


class Unit(enum.StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"


class Period(enum.Enum):
    """How soon a limit is there again: its length in milliseconds."""

    MINUTE = 60_000
    DAY = _DAY_MS


@dataclass(frozen=True, slots=True)
class Limit:
    """`amount` of a unit in a period, for whatever `subject` names: "user:5"."""

    subject: str
    unit: Unit
    period: Period
    amount: int

    def spec(self, now_ms: int) -> Spec:
        """Return the limit in the store's terms."""
        period = self.period.name.lower()
        name = f"{self.unit} per {period}"
        common: dict[str, Any] = {"name": name, "unit": self.unit.value, "amount": self.amount}
        key = f"{self.subject}:{self.unit}:{period}"
        if self.period is Period.MINUTE:
            return Spec(key=key, period=self.period.value, **common)
        day = now_ms // _DAY_MS
        return Spec(key=f"{key}:{day}", ends=(day + 1) * _DAY_MS, **common)


def limits_of(principal: Principal) -> tuple[Limit, ...]:
    """Return every limit that a request of a principal has to keep."""
    subject = f"user:{principal.user_id}"
    asked = (
        (Unit.REQUESTS, Period.MINUTE, settings.REQUESTS_PER_MINUTE),
        (Unit.TOKENS, Period.MINUTE, settings.TOKENS_PER_MINUTE),
        (Unit.TOKENS, Period.DAY, settings.TOKENS_PER_DAY),
    )
    return tuple(
        Limit(subject, unit, period, min(MOST, amount)) for unit, period, amount in asked if amount
    )


class Charge:
    """What one request holds. Whoever reserved it adds to `used_tokens` and settles it.

    `headers` tell the client what is left.
    """

    def __init__(self, headers: Mapping[str, str], bill: "_Bill | None") -> None:
        self.headers = headers
        self.used_tokens = 0
        self._bill = bill
        self._settling: asyncio.Task[None] | None = None

    def settle(self) -> None:
        """Count what was used in place of what was held, from now on and in the background.

        Only the first call counts. Must be called on the event loop.
        """
        if self._bill is None or self._settling is not None:
            return
        self._settling = asyncio.create_task(_settle(self._bill, self.used_tokens))
        _open_settlements.add(self._settling)
        self._settling.add_done_callback(_open_settlements.discard)

    async def settle_soon(self) -> None:
        """Settle, and wait a moment for it: the client's next request shall find it done."""
        self.settle()
        if self._settling is not None:
            await asyncio.wait([self._settling], timeout=_WAIT_S)


_open_settlements: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bill:
    """A try of a call, as the store knows it."""

    store: LimitStore
    call: str
    attempt: str
    specs: tuple[Spec, ...]
    repeats: bool


async def reserve(principal: Principal, *, tokens: int, same_call: str = "") -> Charge:
    """Hold one request and some tokens, at most as many as each limit allows at all.

    Requests with one text `same_call` are tries of one call: it counts once, with the tokens of
    the dearest try. Empty: a call of its own. Raises RateLimited, QuotaExceeded, LimitsUnavailable.
    """
    limits = limits_of(principal)
    if not limits:
        return Charge({}, None)
    now_ms = _now_ms()
    attempt = secrets.token_hex(12)
    bill = _Bill(
        store=limit_store(settings.REDIS_URL),
        call=_call_id(principal, same_call) if same_call else attempt,
        attempt=attempt,
        specs=tuple(limit.spec(now_ms) for limit in limits),
        repeats=bool(same_call),
    )
    amounts = _amounts(min([tokens, *_least(limits, Unit.TOKENS)]))
    try:
        reply = await bill.store.reserve(
            bill.call, attempt, bill.specs, amounts, now_ms=now_ms, repeats=bill.repeats
        )
    except StoreLost as error:
        charge = Charge({}, bill)
        if _grace.take(error):
            return charge
        charge.settle()  # whether it was reserved is not known
        raise LimitsUnavailable from error
    except asyncio.CancelledError:
        Charge({}, bill).settle()  # nor here
        raise
    _grace.restore()
    headers = _headers(reply.states)
    _refuse(reply.states, headers)
    return Charge(headers, replace(bill, call=reply.call))


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


async def _settle(bill: _Bill, used_tokens: int) -> None:
    for pause_s in _SETTLE_PAUSES_S:
        await asyncio.sleep(pause_s)
        try:
            await bill.store.settle(
                bill.call,
                bill.attempt,
                bill.specs,
                _amounts(used_tokens),
                now_ms=_now_ms(),
                repeats=bill.repeats,
            )
        except StoreLost as error:
            logger.warning("tokens could not be counted: Redis does not answer", exc_info=error)
        else:
            return


def _amounts(tokens: int) -> dict[str, int]:
    return {Unit.REQUESTS.value: 1, Unit.TOKENS.value: tokens}


def _least(limits: Iterable[Limit], unit: Unit) -> list[int]:
    return [limit.amount for limit in limits if limit.unit is unit]


def _call_id(principal: Principal, same_call: str) -> str:
    text = f"{principal.user_id} {same_call}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# ------------------------------------------------------------------ what the client is told


def _headers(states: Sequence[State]) -> dict[str, str]:
    """Return the headers of OpenAI's API: of each unit, those of its first limit."""
    headers: dict[str, str] = {}
    for state in states:
        unit = state.spec.unit
        if f"x-ratelimit-limit-{unit}" not in headers:
            headers[f"x-ratelimit-limit-{unit}"] = str(state.spec.amount)
            headers[f"x-ratelimit-remaining-{unit}"] = str(state.remaining)
            headers[f"x-ratelimit-reset-{unit}"] = _written(state.reset)
    return headers


def _written(duration_ms: int) -> str:
    """Return a duration as OpenAI writes it: 120ms, 7.66s, 6m0s, 1h0m5s."""
    if 0 < duration_ms < _SECOND_MS:
        return f"{duration_ms}ms"
    minutes, rest_ms = divmod(duration_ms, 60 * _SECOND_MS)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest_ms / _SECOND_MS:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _refuse(states: Sequence[State], headers: Mapping[str, str]) -> None:
    """Raise for the limit that is over for the longest, if one is."""
    worst = max(states, key=lambda state: state.wait, default=None)
    if worst is None or worst.wait <= 0:
        return
    is_over_for_long = worst.spec.period == 0
    kind = QuotaExceeded if is_over_for_long else RateLimited
    raise kind(worst.spec.name, worst.spec.amount, wait_ms=worst.wait, headers=headers)
