"""The ledger's rows: written exactly once for each request, added up, dropped in time.

A row's id is unique, and the sums (`models_app.ledger_sums`) grow in the transaction that inserts
it, so whoever writes a request a second time changes nothing. `models_app.ledger_writer` and
`models_app.ledger_recovery` say when. Knows no file, no engine and not who may look at what:
`models_app.usage` does.
"""

import logging
import math
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import DataError, IntegrityError, transaction
from django.db.models import CharField
from django.utils import timezone

from models_app import ledger_sums
from models_app.ledger_journal import Begin, End
from models_app.models import LedgerEntry, Outcome, User

logger = logging.getLogger(__name__)

__all__ = ["Outcome"]  # for who may not know the tables: the rest is public by itself

Ended = tuple[Begin, End]

# In one transaction, so that nobody waits long for the database.
BATCH_ROWS: Final = 200
_REMOVED_AT_ONCE: Final = 2000
_MOST: Final = 2**62  # of what a column of either database holds
# How many characters the columns of text hold.
_TEXTS: Final = {
    field.name: field.max_length
    for field in LedgerEntry._meta.concrete_fields  # noqa: SLF001 - Django's way to ask
    if isinstance(field, CharField)
}


def write(ended: Sequence[Ended]) -> list[str]:
    """Write requests that have ended; return the ids of those that were not there yet.

    Raises django.db.Error where the database cannot be written; then nothing of the last batch is.
    """
    return [
        request_id
        for start in range(0, len(ended), BATCH_ROWS)
        for request_id in _write_batch(ended[start : start + BATCH_ROWS])
    ]


def remove_old(now: datetime | None = None) -> int:
    """Remove rows that are older than OLLAMASITE_LEDGER_KEPT; return how many. Sums stay."""
    if math.isinf(settings.LEDGER_KEPT_S):
        return 0
    before = (now or timezone.now()) - timedelta(seconds=settings.LEDGER_KEPT_S)
    removed = 0
    while True:
        old = LedgerEntry.objects.filter(began_at__lt=before).order_by("began_at")
        pks = list(old.values_list("pk", flat=True)[:_REMOVED_AT_ONCE])
        if not pks:
            return removed
        removed += LedgerEntry.objects.filter(pk__in=pks).delete()[0]


def name_of_gone(user_id: int) -> str:
    """Return what a user is called in the ledger whose account is deleted."""
    return f"deleted-{user_id}"


def _write_batch(ended: Sequence[Ended]) -> list[str]:
    try:
        return _write_at_once(ended)
    except IntegrityError:
        # Another process has written one of them meanwhile: it is known now.
        return _write_at_once(ended)
    except DataError:
        if len(ended) == 1:
            logger.exception("the ledger's row of request %s is refused", ended[0][0].request_id)
            return []
        return [request_id for one in ended for request_id in _write_batch([one])]


def _write_at_once(ended: Sequence[Ended]) -> list[str]:
    rows = {begin.request_id: _row(begin, end) for begin, end in ended}
    with transaction.atomic():
        _forget_the_gone(rows.values())
        known = LedgerEntry.objects.filter(request_id__in=list(rows))
        for request_id in known.values_list("request_id", flat=True):
            del rows[request_id]
        LedgerEntry.objects.bulk_create(rows.values())
        ledger_sums.add_up(rows.values())
    return list(rows)


def _forget_the_gone(rows: Collection[LedgerEntry]) -> None:
    """Take the names out of rows of users who were deleted while their last requests ran."""
    asked = {row.user_id for row in rows}
    there = set(User.objects.filter(pk__in=asked).values_list("pk", flat=True))
    for row in rows:
        if row.user_id not in there:
            row.user_name, row.key_name, row.address = name_of_gone(row.user_id), "", None


def _row(begin: Begin, end: End) -> LedgerEntry:
    figures = end.figures
    row = LedgerEntry(
        request_id=begin.request_id,
        began_at=_moment(begin.at_us),
        ended_at=_moment(max(begin.at_us, end.at_us)),
        user_id=begin.user_id,
        user_name=begin.user_name,
        team_id=begin.team_id,
        team_name=begin.team_name,
        key_id=begin.key_id,
        key_name=begin.key_name,
        credential=begin.credential,
        address=begin.address,
        model_name=begin.model_name,
        model_digest=begin.model_digest,
        dialect=begin.dialect,
        kind=begin.kind,
        priority=begin.priority,
        outcome=end.outcome,
        error_code=end.error_code,
        tokens_in=_amount(figures.tokens_in),
        tokens_out=_amount(figures.tokens_out),
        tokens_cached=_amount(figures.tokens_cached),
        queue_us=_amount(figures.queue_us),
        load_us=_amount(figures.load_us),
        prefill_us=_amount(figures.prefill_us),
        decode_us=_amount(figures.decode_us),
        compute_us=_amount(figures.compute_us),
        parameters=begin.parameters,
        seed=begin.seed,
        node=end.node,
    )
    for name, most in _TEXTS.items():  # a row that a database refuses would be missing in the sums
        text = getattr(row, name).replace("\0", "\N{REPLACEMENT CHARACTER}")
        setattr(row, name, text[:most])
    return row


def _amount(number: int) -> int:
    return max(0, min(_MOST, number))


def _moment(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, tz=UTC)
