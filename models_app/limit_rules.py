"""Limits that have been decided for somebody or something: listed, set, changed, removed.

Whoever changes one has it audited. `models_app.limit_book` knows which hold for whom. Sync. Knows
no Redis and not what was used.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet

from models_app import audit
from models_app.authority import require_admin, require_auditor, require_unlimited
from models_app.errors import (
    KeyNotFound,
    LimitRuleNotFound,
    ModelNotFound,
    TeamNotFound,
    UserNotFound,
)
from models_app.key_lines import hold_owner, line_of
from models_app.limit_book import forget_rules
from models_app.limit_kinds import MOST, Period, Unit
from models_app.models import ApiKey, LanguageModel, LimitRule, LimitSubject, Team, User
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal
from ollamasite.errors import BadRequest

# There are no more kinds of them.
_MOST_OF_A_KEY: Final = 7
_RELATED: Final = ("team", "user", "key", "model", "model__owner")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLimit:
    """A limit to set, in words, for whomever it may be."""

    unit: str
    period: str = ""
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRule(NewLimit):
    """A limit to set. `name`: of the team, user or model, or a key's prefix."""

    subject: str
    name: str = ""


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
    require_unlimited(by)  # a key would take its own limits away
    which = {"subject": _subject(new), "unit": _unit(new), "period": _period(new)}
    amount = _amount(new.amount)
    with audit.act():
        target = _TARGETS[LimitSubject(new.subject)](new.name)
        rule, is_new = LimitRule.objects.select_for_update().get_or_create(
            **which, **target, defaults={"amount": amount}
        )
        before = None if is_new else rule.amount
        rule.amount = amount
        rule.save()
        _tell_line(rule)
        record = _record(rule)
        audit.record("limit.set", str(rule), by=by, amount=amount, before=before)
        transaction.on_commit(forget_rules)
    return record


def change_amount(by: Principal | None, rule_id: int, amount: int) -> RuleRecord:
    """Let a limit be about another amount. Raises Forbidden, LimitRuleNotFound, BadRequest."""
    require_admin(by)
    require_unlimited(by)
    with audit.act():
        rule = _held(rule_id)
        before, rule.amount = rule.amount, _amount(amount)
        rule.save(update_fields=["amount", "changed_at"])
        _tell_line(rule)
        audit.record("limit.set", str(rule), by=by, amount=amount, before=before)
        transaction.on_commit(forget_rules)
    return _record(rule)


def remove_rule(by: Principal | None, rule_id: int) -> None:
    """Remove a limit. Raises Forbidden, LimitRuleNotFound."""
    require_admin(by)
    require_unlimited(by)
    with audit.act():
        rule = _held(rule_id)
        told = str(rule)
        _same_of_line(rule).delete()
        audit.record("limit.remove", told, by=by)
        transaction.on_commit(forget_rules)


def limit_new_key(by: Principal | None, key: ApiKey, limits: Iterable[NewLimit]) -> None:
    """Give a key that is being made limits of its own. Wants the caller's transaction.

    Asks nobody's rights. Raises BadRequest.
    """
    wanted = list(limits)
    if len(wanted) > _MOST_OF_A_KEY:
        raise BadRequest(f"a key has at most {_MOST_OF_A_KEY} limits")
    for limit in wanted:
        rule, _ = LimitRule.objects.update_or_create(
            subject=LimitSubject.KEY,
            key=key,
            unit=_unit(limit),
            period=_period(limit),
            defaults={"amount": _amount(limit.amount)},
        )
        audit.record("limit.set", str(rule), by=by, amount=rule.amount, before=None)
    transaction.on_commit(forget_rules)


def has_limits(key_id: int) -> bool:
    """Whether a key has limits of its own."""
    return LimitRule.objects.filter(key_id=key_id).exists()


def rules_of_keys(prefixes: Iterable[str]) -> list[RuleRecord]:
    """Return the limits of keys that the caller may look at; `name` is the key's prefix."""
    rows = LimitRule.objects.select_related(*_RELATED).filter(key__prefix__in=list(prefixes))
    return [_record(row) for row in rows.order_by("key_id", "unit", "amount")]


def copy_key_rules(from_key_id: int, to_key_id: int) -> None:
    """Give a key the limits of the one whose place it takes, and with which it shares them.

    Wants the caller's transaction.
    """
    for rule in LimitRule.objects.filter(key_id=from_key_id):
        _give(rule, to_key_id)
    transaction.on_commit(forget_rules)


def _tell_line(rule: LimitRule) -> None:
    """Give a key's rule to the other good keys of its line: they share what they may use."""
    if rule.key is None:
        return
    others = ApiKey.objects.usable().filter(pk__in=line_of(rule.key)).exclude(pk=rule.key.pk)
    for key_id in others.values_list("pk", flat=True):
        _give(rule, key_id)


def _give(rule: LimitRule, key_id: int) -> None:
    """Write a key's rule for another key, in the place of the one it has."""
    LimitRule.objects.update_or_create(
        subject=LimitSubject.KEY,
        key_id=key_id,
        unit=rule.unit,
        period=rule.period,
        defaults={"amount": rule.amount},
    )


def _same_of_line(rule: LimitRule) -> QuerySet[LimitRule]:
    """Return a rule's rows: for a key, those of all keys of its line."""
    if rule.key is None:
        return LimitRule.objects.filter(pk=rule.pk)
    keys = line_of(rule.key)
    return LimitRule.objects.filter(key_id__in=keys, unit=rule.unit, period=rule.period)


def _held(rule_id: int) -> LimitRule:
    owners = LimitRule.objects.filter(pk=rule_id, key__isnull=False)
    for owner_id in owners.values_list("key__owner_id", flat=True):
        hold_owner(owner_id)  # nobody rotates the key meanwhile
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


def _unit(new: NewLimit) -> str:
    if new.unit not in set(Unit):
        raise BadRequest(f'"unit" must be one of {", ".join(Unit)}')
    return new.unit


def _period(new: NewLimit) -> str:
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
    hold_owner(key.owner_id)  # nobody rotates it meanwhile
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
