"""The audit's rows as they are read: a page at a time, or the whole chain to see that it holds.

Who may look has been decided before. Knows no HTTP.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Q

from models_app.audit import digest_of
from models_app.models import AuditEntry

_BATCH: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One act, as told. `actor` is empty where nobody was known."""

    sequence: int
    at: datetime
    actor: str
    credential: str
    address: str | None
    action: str
    subject: str
    details: dict[str, Any]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuestion:
    """Which acts are asked for; what is empty does not narrow.

    `action` is one action, or all of a kind: `key` for `key.create` and the like. `text` is
    looked for in actors and subjects. `before` is a sequence: older ones than that.
    """

    actor: str = ""
    action: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the chain holds: `fault` says in words what does not, and is empty where it does.

    `head` is the digest of the last row that is right: whoever keeps it notices later if rows at
    the end are gone.
    """

    rows: int
    head: str
    fault: str = ""


def find_entries(question: AuditQuestion, *, limit: int) -> list[AuditRecord]:
    """Return the newest acts that were asked for, at most `limit`."""
    return [_record_of(row) for row in _rows(question)[:limit]]


def verify(head: str = "") -> Verdict:
    """Walk through the whole chain, and say what is the first thing wrong with it.

    `head` is a digest that was kept: a row must still have it. Reads rows in batches.
    """
    last, rows, is_head_found = "", 0, not head
    for row in _in_order():
        if fault := _fault_of(row, rows + 1, last):
            return Verdict(rows=rows, head=last, fault=fault)
        last, rows = row.digest, rows + 1
        is_head_found = is_head_found or last == head
    if not is_head_found:
        told = f"no row has the digest {head}: rows were removed from the end, or all written anew"
        return Verdict(rows=rows, head=last, fault=told)
    return Verdict(rows=rows, head=last)


def _rows(question: AuditQuestion) -> Any:
    asked = Q()
    if question.actor:
        asked &= Q(actor_name__iexact=question.actor)
    if question.action:
        asked &= Q(action=question.action) | Q(action__startswith=f"{question.action}.")
    if question.text:
        asked &= Q(subject__icontains=question.text) | Q(actor_name__icontains=question.text)
    if question.since is not None:
        asked &= Q(at__gte=question.since)
    if question.until is not None:
        asked &= Q(at__lt=question.until)
    if question.before is not None:
        asked &= Q(sequence__lt=question.before)
    return AuditEntry.objects.filter(asked).order_by("-sequence")


def _record_of(row: AuditEntry) -> AuditRecord:
    return AuditRecord(
        sequence=row.sequence,
        at=row.at,
        actor=row.actor_name,
        credential=row.credential,
        address=row.address,
        action=row.action,
        subject=row.subject,
        details=row.details,
        digest=row.digest,
    )


def _in_order() -> Iterator[AuditEntry]:
    """Return all rows, the first one first. Not one long query: others write meanwhile."""
    after = 0
    while rows := list(AuditEntry.objects.filter(sequence__gt=after).order_by("sequence")[:_BATCH]):
        yield from rows
        after = rows[-1].sequence


def _fault_of(row: AuditEntry, sequence: int, previous: str) -> str:
    """Return what is wrong with a row that should have this place, or an empty text."""
    if row.sequence != sequence:
        return f"row {sequence} is missing: the next one that is there is {row.sequence}"
    if row.previous != previous:
        return f"row {sequence} does not follow the row before it: one of the two was replaced"
    if row.digest != digest_of(row):
        told = f"row {sequence} ({row.action}, {row.at:%Y-%m-%d %H:%M:%S}) was changed"
        return told if previous else f"{told}, or OLLAMASITE_KEY_PEPPER is another one than then"
    return ""
