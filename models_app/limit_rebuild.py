"""What had been used of a limit that Redis knows nothing of, as the ledger has it.

Sums of days and months come from the ledger's hours, what a minute's limit still remembers from
its rows. A request whose row is written before it is settled would be counted twice, so those that
ended a moment ago are named, and those that somebody settles for a dead process. Tries of one call
are a row each and count each here. Knows no Redis and decides nothing.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.db.models import F, Q, Sum

from models_app import limit_book
from models_app.limit_kinds import Unit
from models_app.limit_store import Past, Spec, StoreLost
from models_app.models import LedgerEntry, LedgerHour, Outcome
from models_app.names import DEFAULT_HOST, LIBRARY

# By then every request that ended before Redis was lost has its row.
WRITTEN_MS: Final = 1000
# Long enough for every attempt to settle a request after its row is there.
_SETTLED_LATE: Final = timedelta(seconds=60)
# What a minute's limit has not forgotten, even where somebody used twice as much as there was.
_REMEMBERED: Final = timedelta(minutes=2)
_READS: Final = 3


async def past_of(spec: Spec, born_ms: int, now_ms: int) -> Past:
    """Return what was used of a limit. Raises StoreLost where the ledger cannot be read.

    `born_ms` is when Redis was found empty: requests that had just ended then are waited for.
    """
    wait_ms = born_ms + WRITTEN_MS - now_ms
    if 0 < wait_ms <= WRITTEN_MS:
        await asyncio.sleep(wait_ms / 1000)
    try:
        return await sync_to_async(_read)(spec, now_ms)
    except DatabaseError as error:
        raise StoreLost from error


def _read(spec: Spec, now_ms: int) -> Past:
    """Read the sum between two equal lists of those that are named: then they belong together."""
    tries = _unsettled(spec, now_ms)
    for _ in range(_READS):
        fill = _drained(spec, now_ms) if spec.period else _sum(spec)
        again = _unsettled(spec, now_ms)
        if again == tries:
            return Past(spec=spec, fill=fill, tries=sorted(tries))
        tries = again
    raise StoreLost


def _sum(spec: Spec) -> int:
    hours = LedgerHour.objects.filter(_whose(spec.subject), hour__gte=_moment(spec.begins))
    amount = (
        Sum("requests") if spec.unit == Unit.REQUESTS else Sum(F("tokens_in") + F("tokens_out"))
    )
    return int(hours.aggregate(sum=amount)["sum"] or 0)


def _drained(spec: Spec, now_ms: int) -> int:
    """Return what is left of the last requests in a queue that drains, in its own measure."""
    since = _moment(now_ms) - _REMEMBERED
    rows = LedgerEntry.objects.filter(_whose(spec.subject), began_at__gte=since)
    uses = rows.order_by("began_at").values_list("began_at", "tokens_in", "tokens_out")
    fill, last_ms = 0, 0
    for began_at, *tokens in uses.iterator():
        at_ms = round(began_at.timestamp() * 1000)
        used = 1 if spec.unit == Unit.REQUESTS else sum(tokens)
        fill = max(0, fill - (at_ms - last_ms) * spec.amount) + used * spec.period
        last_ms = at_ms
    return max(0, fill - max(0, now_ms - last_ms) * spec.amount)


def _unsettled(spec: Spec, now_ms: int) -> set[str]:
    """Return the ids of requests that have a row and may still be settled."""
    now = _moment(now_ms)
    begins = now - _REMEMBERED if spec.period else _moment(spec.begins)
    rows = LedgerEntry.objects.filter(_whose(spec.subject), began_at__gte=begins)
    late = rows.filter(Q(ended_at__gte=now - _SETTLED_LATE) | Q(outcome=Outcome.LOST))
    return set(late.values_list("request_id", flat=True))


def _whose(subject: str) -> Q:
    kind, _, whose = subject.partition(":")
    if kind == "site":
        return Q()
    if kind == "model":
        return _is_model(_forms(whose))
    if kind == "key":
        return Q(key_id__in=_line_of(int(whose)))
    return Q(**{f"{kind}_id": int(whose)})


def _line_of(first: int) -> list[int]:
    """Return a key and all that took its place, which share their limits."""
    return [first, *(key for key, of in limit_book.first_keys().items() if of == first)]


def _is_model(forms: Iterable[str]) -> Q:
    found = Q()
    for form in forms:
        found |= Q(model_name__istartswith=f"{form}:")
    return found


def _forms(whole: str) -> list[str]:
    """Return how a model's rows may name it: in full, and as lists show it."""
    host, namespace, model = whole.rsplit("/", 2)
    if host != DEFAULT_HOST:
        return [whole]
    return [whole, model if namespace == LIBRARY else f"{namespace}/{model}"]


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
