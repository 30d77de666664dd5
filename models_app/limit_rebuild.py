"""What had been used of a limit that Redis knows nothing of, as the ledger has it.

Sums of days and months come from the ledger's hours, what a minute's limit still remembers from its
rows. A request whose row is written before it is settled would be counted twice, so those that
ended a moment ago are named, and those that somebody settles for a dead process. What ended earlier
needs no name: its time tells. Tries of one call are a row each and count each here. Knows no Redis
and decides nothing.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.db.models import F, Q, QuerySet, Sum, Value

from models_app import limit_book
from models_app.limit_kinds import Unit
from models_app.limit_store import WRITTEN_LATE_MS, Past, PastUnknown, Spec
from models_app.models import LedgerEntry, LedgerHour, Outcome
from models_app.names import DEFAULT_HOST, LIBRARY

# By then every request that ended before Redis was lost has its row.
WRITTEN_MS: Final = 1000
# What ended longer ago is known by that. A little more: not all take the same moment for the end.
_NAMED: Final = timedelta(milliseconds=WRITTEN_LATE_MS + 5000)
# What a minute's limit has not forgotten, even where somebody used twice as much as there was.
_REMEMBERED: Final = timedelta(minutes=2)


async def past_of(spec: Spec, born_ms: int, now_ms: int) -> Past:
    """Return what was used of a limit. Raises PastUnknown where the ledger cannot be read.

    `born_ms` is when Redis was found empty: requests that had just ended then are waited for.
    """
    wait_ms = born_ms + WRITTEN_MS - now_ms
    if 0 < wait_ms <= WRITTEN_MS:
        await asyncio.sleep(wait_ms / 1000)
    try:
        return await sync_to_async(_read)(spec, now_ms)
    except DatabaseError as error:
        raise PastUnknown from error


def _read(spec: Spec, now_ms: int) -> Past:
    return _drained(spec, now_ms) if spec.period else _sum(spec, now_ms)


def _sum(spec: Spec, now_ms: int) -> Past:
    """Read the sum and who is named in one statement: so they belong together."""
    begins = _moment(spec.begins)
    amount = (
        Sum("requests") if spec.unit == Unit.REQUESTS else Sum(F("tokens_in") + F("tokens_out"))
    )
    hours = LedgerHour.objects.filter(_whose(spec.subject), hour__gte=begins).order_by()
    sums = hours.annotate(name=Value("")).values("name").annotate(sum=amount)
    late = Q(ended_at__gte=_moment(now_ms) - _NAMED) | Q(outcome=Outcome.LOST, began_at__gte=begins)
    named = _rows_of(spec.subject).filter(late).values_list("request_id", Value(0))
    found = list(sums.values_list("name", "sum").union(named, all=True))
    fill = sum(int(used or 0) for name, used in found if not name)
    return Past(spec=spec, fill=fill, tries=sorted(name for name, _ in found if name))


def _drained(spec: Spec, now_ms: int) -> Past:
    """Return what is left of the last requests in a queue that drains, in its own measure."""
    now = _moment(now_ms)
    late = Q(began_at__gte=now - _REMEMBERED) | Q(ended_at__gte=now - _NAMED)
    # Sorted here: a database would walk through all rows for the sake of the order.
    rows = _rows_of(spec.subject).filter(late)
    uses = sorted(rows.values_list("began_at", "request_id", "tokens_in", "tokens_out"))
    fill, last_ms = 0, now_ms - _milliseconds(_REMEMBERED)
    tries: list[str] = []
    for began_at, name, *tokens in uses:
        tries.append(name)
        at_ms = round(began_at.timestamp() * 1000)
        if at_ms < last_ms:
            continue  # it has drained, but may have to be settled
        used = 1 if spec.unit == Unit.REQUESTS else sum(tokens)
        fill = max(0, fill - (at_ms - last_ms) * spec.amount) + used * spec.period
        last_ms = at_ms
    fill = max(0, fill - max(0, now_ms - last_ms) * spec.amount)
    return Past(spec=spec, fill=fill, tries=sorted(tries))


def _rows_of(subject: str) -> QuerySet[LedgerEntry]:
    """Return the rows that count for a limit, to be found by their time.

    Of somebody who has a million rows only the last are wanted, so nobody's index may be used.
    """
    kind, _, whose = subject.partition(":")
    rows = LedgerEntry.objects.order_by()
    if kind in {"team", "user"}:
        return rows.annotate(whose=F(f"{kind}_id") + 0).filter(whose=int(whose))
    if kind == "key":
        return rows.annotate(whose=F("key_id") + 0).filter(whose__in=_line_of(int(whose)))
    return rows.filter(_whose(subject))


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


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
