"""Keys as their pages show them: in words, with their limits and what they were used for.

Which keys somebody may look at is decided by `models_app.keys`. A page of keys costs as many
queries as one key. Knows no HTTP and no markup.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db.models import Sum
from django.utils import timezone

from models_app import keys
from models_app.keys import KeyRecord
from models_app.limit_rules import RuleRecord, rules_of_keys
from models_app.models import ApiKey, LedgerDay
from models_app.permissions import Principal, Scope

DAYS: Final = 30
_SOON: Final = timedelta(days=7)
_GOOD: Final = frozenset({"active", "rotated"})
SCOPE_WORDS: Final = {
    Scope.READ: "see models",
    Scope.USE: "use models",
    Scope.WRITE: "change models",
    Scope.ADMIN: "administer",
}
_TONES: Final = {"active": "good", "rotated": "warn", "expired": "", "revoked": "bad", "ended": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """What a key was used for since the month began."""

    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCard:
    """A key with all that is told about it beside its name."""

    key: KeyRecord
    limits: tuple[RuleRecord, ...]
    use: KeyUse
    now: datetime

    @property
    def is_good(self) -> bool:
        """Whether it opens the door."""
        return self.key.state in _GOOD

    @property
    def state(self) -> str:
        """How it is, in one or two words."""
        at = self.key.rules.expires_at
        if self.key.state == "active" and at is not None and at - self.now < _SOON:
            return "expires soon"
        return self.key.state

    @property
    def tone(self) -> str:
        """The colour of that: good, warn, bad or none."""
        return "warn" if self.state == "expires soon" else _TONES[self.key.state]

    @property
    def scopes(self) -> str:
        """What it may do, in words."""
        return ", ".join(SCOPE_WORDS[scope] for scope in self.key.rules.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfUse:
    """What a key was used for on a day (UTC)."""

    day: date
    requests: int
    tokens: int


def key_cards(by: Principal) -> list[KeyCard]:
    """Return the caller's keys, then those of service accounts that they look after, by owner."""
    found = _cards(keys.list_keys(by, with_services=True))
    return sorted(found, key=lambda card: (card.key.service_of, card.key.owner.lower()))


def key_card(by: Principal, prefix: str) -> KeyCard:
    """Return a key. Raises KeyNotFound."""
    return _cards([keys.find_key(by, prefix)])[0]


def days_of_use(by: Principal, prefix: str) -> list[DayOfUse]:
    """Return the last days of a key's use, each, the oldest first. Raises KeyNotFound."""
    keys.find_key(by, prefix)
    first = (timezone.now().astimezone(UTC) - timedelta(days=DAYS - 1)).date()
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    key_ids = ApiKey.objects.filter(prefix=prefix).values("pk")
    rows = LedgerDay.objects.filter(key_id__in=key_ids, day__gte=since).order_by()
    found = {first + timedelta(days=number): (0, 0) for number in range(DAYS)}
    used: Iterable[Any] = rows.values("day").annotate(**_SUMS)
    for row in used:
        day = row["day"].astimezone(UTC).date()
        found[day] = (row["asked"], row["came_in"] + row["went_out"])
    return [DayOfUse(day=day, requests=both[0], tokens=both[1]) for day, both in found.items()]


_SUMS: Final = {
    "asked": Sum("requests"),
    "came_in": Sum("tokens_in"),
    "went_out": Sum("tokens_out"),
}


def _cards(records: Sequence[KeyRecord]) -> list[KeyCard]:
    prefixes = [record.prefix for record in records]
    limits: dict[str, list[RuleRecord]] = {}
    for rule in rules_of_keys(prefixes):
        limits.setdefault(rule.name, []).append(rule)
    used = _used_this_month(prefixes)
    now = timezone.now()
    return [
        KeyCard(
            key=record,
            limits=tuple(limits.get(record.prefix, ())),
            use=used.get(record.prefix, KeyUse()),
            now=now,
        )
        for record in records
    ]


def _used_this_month(prefixes: Iterable[str]) -> dict[str, KeyUse]:
    """Return what keys were used for, by their prefixes, where it was something."""
    ids = dict(ApiKey.objects.filter(prefix__in=list(prefixes)).values_list("pk", "prefix"))
    now = timezone.now().astimezone(UTC)
    since = datetime(now.year, now.month, 1, tzinfo=UTC)
    rows = LedgerDay.objects.filter(key_id__in=list(ids), day__gte=since).order_by()
    by_key: Iterable[Any] = rows.values("key_id").annotate(**_SUMS)
    return {
        ids[row["key_id"]]: KeyUse(requests=row["asked"], tokens=row["came_in"] + row["went_out"])
        for row in by_key
    }
