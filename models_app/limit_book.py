"""Which limits hold for whom, as this process knows it.

All limits that concern a request hold together: the site's, the team's to which it counts, the
key's, the model's and the user's. Of a user there is one of each kind: a rule for the user takes
the place of the rule for each user, and that one of the site's setting. Keys that have taken each
other's place share their limits. What a process knows of the rules is looked up again after half a
second; one small query tells whether anything changed. Sync. Knows no Redis and not what was used.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from django.conf import settings
from django.db.models import Count, Max, Sum

from models_app.limit_kinds import MOST, Limit, Period, Unit, model_subject
from models_app.models import ApiKey, LimitRule, LimitSubject
from models_app.names import ModelName
from models_app.permissions import Principal

_KNOWN_S: Final = 0.5
_EACH_USER: Final = "each user"


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Every rule, by the subject whose use is counted."""

    rules: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)

    def limits_of(self, principal: Principal, models: tuple[str, ...] = ()) -> tuple[Limit, ...]:
        """Return what a principal's requests have to keep, asked for models by their subjects."""
        subjects = ["site"]
        if principal.team is not None:
            subjects.append(f"team:{principal.team.team_id}")
        if principal.key_id is not None:
            subjects.append(f"key:{principal.key_id}")
        shared = (limit for name in (*subjects, *models) for limit in self.rules.get(name, ()))
        return (*self._of_user(f"user:{principal.user_id}"), *shared)

    def _of_user(self, user: str) -> tuple[Limit, ...]:
        """Return one limit of each kind: the user's, else each user's, else the site's setting."""
        found: dict[tuple[Unit, Period], Limit] = {}
        asked = (*_settings(), *self.rules.get(_EACH_USER, ()), *self.rules.get(user, ()))
        for limit in asked:
            found[limit.unit, limit.period] = replace(limit, subject=user)
        return tuple(found.values())


def _settings() -> tuple[Limit, ...]:
    asked = (
        (Unit.REQUESTS, Period.MINUTE, settings.REQUESTS_PER_MINUTE),
        (Unit.TOKENS, Period.MINUTE, settings.TOKENS_PER_MINUTE),
        (Unit.TOKENS, Period.DAY, settings.TOKENS_PER_DAY),
        (Unit.TOKENS, Period.MONTH, settings.TOKENS_PER_MONTH),
        (Unit.PARALLEL, Period.NONE, settings.PARALLEL_REQUESTS),
    )
    return tuple(
        Limit(_EACH_USER, unit, period, min(MOST, amount))
        for unit, period, amount in asked
        if amount
    )


class _Known:
    """What this process knows of the rules."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._book: RuleBook | None = None
        self._stamp: object = None
        self._looked_s = 0.0

    def book(self) -> RuleBook | None:
        """Return the rules, or None: whoever is told so looks them up, and others wait for none."""
        with self._lock:
            is_old = time.monotonic() - self._looked_s >= _KNOWN_S
            if self._book is None or not is_old:
                return self._book
            self._looked_s = time.monotonic()
            return None

    def look_up(self) -> RuleBook:
        """Read the rules if they have changed. Whoever fails leaves them to the next."""
        looked_s = time.monotonic()
        is_done = False
        try:
            stamp = _stamp()
            with self._lock:
                book = self._book if stamp == self._stamp else None
            book = book or _read()
            is_done = True
        finally:
            with self._lock:
                self._looked_s = looked_s if is_done else 0.0
        with self._lock:
            self._book, self._stamp = book, stamp
        return book

    def forget(self) -> None:
        """Look everything up again."""
        with self._lock:
            self._book, self._stamp, self._looked_s = None, None, 0.0

    def keep(self, book: RuleBook) -> None:
        """Hold these to be the rules for now."""
        with self._lock:
            self._book, self._stamp, self._looked_s = book, None, float("inf")


_known: Final = _Known()


def known_rules() -> RuleBook | None:
    """Return the rules as they were half a second ago at most; None: `read_rules` knows."""
    return _known.book()


def read_rules() -> RuleBook:
    """Return the rules as the database has them."""
    return _known.look_up()


def forget_rules() -> None:
    """Have this process look the rules up again; others see a change within a second."""
    _known.forget()


def _stamp() -> object:
    """Return what is another value after any change of the rules."""
    return LimitRule.objects.aggregate(
        rows=Count("pk"), last=Max("pk"), changed=Max("changed_at"), amounts=Sum("amount")
    )


def _read() -> RuleBook:
    rules: dict[str, tuple[Limit, ...]] = {}
    firsts = first_keys()
    counted_as: dict[tuple[str, str, str], int] = {}  # those of a line of keys share one
    for row in LimitRule.objects.select_related("model").order_by("pk"):
        subject = _counted(row)
        counted = subject if row.key_id is None else f"key:{firsts.get(row.key_id, row.key_id)}"
        limit = Limit(
            counted,
            Unit(row.unit),
            Period(row.period),
            max(1, min(MOST, row.amount)),
            counted_as.setdefault((counted, row.unit, row.period), row.pk),
        )
        rules[subject] = (*rules.get(subject, ()), limit)
    return RuleBook(rules)


def first_keys() -> dict[int, int]:
    """Return, by the id of every key that took another's place, the first key of its line.

    They share their limits: a rotation is no way around them.
    """
    rotated = ApiKey.objects.filter(successor__isnull=False).order_by("pk")
    firsts: dict[int, int] = {}
    for key_id, successor_id in rotated.values_list("pk", "successor_id"):
        firsts[successor_id] = firsts.get(key_id, key_id)
    return firsts


def _counted(row: LimitRule) -> str:
    if row.model is not None:
        return model_subject(
            ModelName(host=row.model.host, namespace=row.model.namespace, model=row.model.name)
        )
    if row.subject in {LimitSubject.SITE, LimitSubject.EACH_USER}:
        return row.subject
    return f"{row.subject}:{row.team_id or row.user_id or row.key_id}"
