"""The names of people who are forgotten, taken out of the ledger a batch at a time.

    note(user_id)        in the act that deletes the account
    take_out(user_id)    behind it; it may be killed at any time
    take_out_rest()      a worker's chore: what was not finished, and what came behind it

The ledger may have millions of rows of somebody: everybody may write between two batches. What is
counted stays, under `deleted-<id>`. Knows not who may forget whom.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import QuerySet
from django.utils import timezone

from models_app.ledger import name_of_gone
from models_app.models import LedgerDay, LedgerEntry, LedgerHour, LedgerTotal, NameToForget
from models_app.row_pages import pages

_AT_ONCE: Final = 500
# Whoever has looked at the account before it went may write its name this long afterwards; most
# wait for the database a few seconds at most.
_WRITTEN_WITHIN: Final = timedelta(hours=1)


def note(user_id: int) -> None:
    """Note that the name of a user, who is deleted in this transaction, is to be taken out."""
    NameToForget.objects.get_or_create(user_id=user_id)


def take_out(user_id: int) -> None:
    """Take a user's name, the names of their keys and their addresses out of the ledger."""
    # People give their keys names, too.
    unnamed: dict[str, Any] = {"user_name": name_of_gone(user_id), "key_name": ""}
    _change(LedgerEntry.objects.filter(user_id=user_id), "began_at", {**unnamed, "address": None})
    _change(LedgerHour.objects.filter(user_id=user_id), "hour", unnamed)
    _change(LedgerDay.objects.filter(user_id=user_id), "day", unnamed)
    if user_id:  # 0: what is not kept apart by users
        _change(LedgerTotal.objects.filter(user_id=user_id, user_id__gt=0), "begins", unnamed)


def take_out_rest(now: datetime | None = None) -> None:
    """Take out what is left of all who were noted, until nobody can write their names any longer.

    Raises django.db.Error.
    """
    for noted in NameToForget.objects.all():
        take_out(noted.user_id)
        if noted.since < (now or timezone.now()) - _WRITTEN_WITHIN:
            noted.delete()


def _change(rows: QuerySet[Any], by: str, fields: dict[str, Any]) -> None:
    named = rows.exclude(user_name=fields["user_name"])
    for page in pages(named, by=by, at_once=_AT_ONCE):
        rows.filter(pk__in=[row["pk"] for row in page]).update(**fields)
