"""Limits that have been decided for somebody or something: who sets them, and which hold for whom.

All limits that concern a request hold together: the site's, the team's to which it counts, the
key's, the model's and the user's. Of a user there is one of each kind: a rule for the user takes
the place of the rule for each user, and that one of the site's setting. What a process knows of
the rules is looked up again after half a second; one small query tells whether anything changed.
Sync. Knows no Redis and not what was used.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max, Sum

from models_app import audit
from models_app.authority import require_admin, require_auditor
from models_app.errors import (
    KeyNotFound,
    LimitRuleNotFound,
    ModelNotFound,
    TeamNotFound,
    UserNotFound,
)
from models_app.limit_kinds import MOST, Limit, Period, Unit, model_subject
from models_app.models import ApiKey, LanguageModel, LimitRule, LimitSubject, Team, User
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal
from ollamasite.errors import BadRequest

_KNOWN_S: Final = 0.5
_EACH_USER: Final = "each user"
_RELATED: Final = ("team", "user", "key", "model", "model__owner")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRule:
    """A limit to set, in words. `name`: of the team, user or model, or a key's prefix."""

    subject: str
    name: str = ""
    unit: str
    period: str = ""
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRecord:
    """A limit that holds."""

    rule_id: int
    subject: str
    name: str
    unit: str
    period: str
    amount: int
    changed_at: datetime


# ------------------------------------------------------------------ set and removed


def list_rules(by: Principal | None) -> list[RuleRecord]:
    """Return every rule. Raises Forbidden for whoever may not look at records."""
    require_auditor(by)
    return [_record(row) for row in LimitRule.objects.select_related(*_RELATED)]


def put_rule(by: Principal | None, new: NewRule) -> RuleRecord:
    """Set a limit, in the place of the one of the same subject, unit and period.

    Raises Forbidden, BadRequest, NotFound.
    """
    require_admin(by)
    which = {"subject": _subject(new), "unit": _unit(new), "period": _period(new)}
    amount = _amount(new.amount)
    with transaction.atomic():
        target = _TARGETS[LimitSubject(new.subject)](new.name)
        rule, is_new = LimitRule.objects.select_for_update().get_or_create(
            **which, **target, defaults={"amount": amount}
        )
        before = None if is_new else rule.amount
        rule.amount = amount
        rule.save()
        record = _record(rule)
        audit.record("limit.set", str(rule), by=by, amount=amount, before=before)
        transaction.on_commit(forget_rules)
    return record


def change_amount(by: Principal | None, rule_id: int, amount: int) -> RuleRecord:
    """Let a limit be about another amount. Raises Forbidden, LimitRuleNotFound, BadRequest."""
    require_admin(by)
    with transaction.atomic():
        rule = _held(rule_id)
        before, rule.amount = rule.amount, _amount(amount)
        rule.save(update_fields=["amount", "changed_at"])
        audit.record("limit.set", str(rule), by=by, amount=amount, before=before)
        transaction.on_commit(forget_rules)
    return _record(rule)


def remove_rule(by: Principal | None, rule_id: int) -> None:
    """Remove a limit. Raises Forbidden, LimitRuleNotFound."""
    require_admin(by)
    with transaction.atomic():
        rule = _held(rule_id)
        told = str(rule)
        rule.delete()
        audit.record("limit.remove", told, by=by)
        transaction.on_commit(forget_rules)


def copy_key_rules(from_key_id: int, to_key_id: int) -> None:
    """Give a key the limits of the one whose place it takes. Wants the caller's transaction."""
    for rule in LimitRule.objects.filter(key_id=from_key_id):
        LimitRule.objects.update_or_create(
            subject=LimitSubject.KEY,
            key_id=to_key_id,
            unit=rule.unit,
            period=rule.period,
            defaults={"amount": rule.amount},
        )
    transaction.on_commit(forget_rules)


def _held(rule_id: int) -> LimitRule:
    rows = LimitRule.objects.select_for_update(of=("self",)).select_related(*_RELATED)
    rule = rows.filter(pk=rule_id).first()
    if rule is None:
        raise LimitRuleNotFound
    return rule


def _subject(new: NewRule) -> LimitSubject:
    if new.subject not in LimitSubject.values:
        raise BadRequest(f'"subject" must be one of {", ".join(LimitSubject.values)}')
    subject = LimitSubject(new.subject)
    is_named = subject not in {LimitSubject.SITE, LimitSubject.EACH_USER}
    if not new.name.isprintable():
        raise BadRequest('"name" has characters in it that no name has')
    if bool(new.name) is not is_named:
        raise BadRequest(f'"name" must {"" if is_named else "not "}be given for "{subject}"')
    return subject


def _unit(new: NewRule) -> str:
    if new.unit not in set(Unit):
        raise BadRequest(f'"unit" must be one of {", ".join(Unit)}')
    return new.unit


def _period(new: NewRule) -> str:
    if new.unit == Unit.PARALLEL:
        if new.period:
            raise BadRequest('"period" must not be given for "parallel"')
        return ""
    if not new.period or new.period not in set(Period):
        raise BadRequest(f'"period" must be one of {", ".join(filter(None, Period))}')
    return new.period


def _amount(amount: int) -> int:
    if not 0 < amount <= MOST:
        raise BadRequest(f'"amount" must be a number from 1 to {MOST}')
    return amount


def _nothing(_name: str) -> dict[str, Any]:
    return {}


def _team(name: str) -> dict[str, Any]:
    team = Team.objects.filter(name__iexact=name).first()
    if team is None:
        raise TeamNotFound(name)
    return {"team": team}


def _user(name: str) -> dict[str, Any]:
    user = User.objects.filter(username__iexact=name).first()
    if user is None:
        raise UserNotFound(name)
    return {"user": user}


def _key(prefix: str) -> dict[str, Any]:
    key = ApiKey.objects.select_related("owner").filter(prefix=prefix).first()
    if key is None:
        raise KeyNotFound(prefix)
    return {"key": key}


def _model(text: str) -> dict[str, Any]:
    name = ModelName.parse(text)
    rows = LanguageModel.objects.filter(
        host__iexact=name.host,
        namespace__iexact=name.namespace or LIBRARY,
        name__iexact=name.model,
    )
    model = rows.order_by("is_mirror", "pk").first()
    if model is None:
        raise ModelNotFound(text)
    return {"model": model}


_TARGETS: Final[dict[LimitSubject, Callable[[str], dict[str, Any]]]] = {
    LimitSubject.SITE: _nothing,
    LimitSubject.EACH_USER: _nothing,
    LimitSubject.TEAM: _team,
    LimitSubject.USER: _user,
    LimitSubject.KEY: _key,
    LimitSubject.MODEL: _model,
}


def _record(row: LimitRule) -> RuleRecord:
    return RuleRecord(
        rule_id=row.pk,
        subject=row.subject,
        name=_name(row),
        unit=row.unit,
        period=row.period,
        amount=row.amount,
        changed_at=row.changed_at,
    )


def _name(row: LimitRule) -> str:
    if row.model is not None:
        return _model_name(row.model).short.rpartition(":")[0]
    if row.key is not None:
        return row.key.prefix
    if row.user is not None:
        return row.user.username
    return row.team.name if row.team is not None else ""


def _model_name(model: LanguageModel) -> ModelName:
    return ModelName(host=model.host, namespace=model.namespace, model=model.name)


# ------------------------------------------------------------------ which hold for whom


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
            found[limit.unit, limit.period] = Limit(user, limit.unit, limit.period, limit.amount)
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
    for row in LimitRule.objects.select_related("model"):
        subject = _counted(row)
        limit = Limit(subject, Unit(row.unit), Period(row.period), max(1, min(MOST, row.amount)))
        rules[subject] = (*rules.get(subject, ()), limit)
    return RuleBook(rules)


def _counted(row: LimitRule) -> str:
    if row.model is not None:
        return model_subject(_model_name(row.model))
    if row.subject in {LimitSubject.SITE, LimitSubject.EACH_USER}:
        return row.subject
    return f"{row.subject}:{row.team_id or row.user_id or row.key_id}"
