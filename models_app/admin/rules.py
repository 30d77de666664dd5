"""Limits under /admin/. What a limit may be is decided by `models_app.limit_rules`."""

from typing import Final

from django import forms
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from models_app import limit_rules
from models_app.admin.acts import Act, Doing
from models_app.admin.panel import Panel
from models_app.admin.site import site
from models_app.limit_kinds import MOST
from models_app.limit_rules import NewRule
from models_app.models import LimitPeriod, LimitRule, LimitSubject, LimitUnit

_RELATED: Final = ("team", "user", "key", "model")


class AmountForm(forms.Form):
    """How much."""

    amount = forms.IntegerField(
        label="At most", min_value=1, max_value=MOST, widget=UnfoldAdminIntegerFieldWidget
    )


class RuleForm(AmountForm):
    """A limit in words."""

    subject = forms.ChoiceField(
        label="Whose use", choices=LimitSubject.choices, widget=UnfoldAdminSelectWidget
    )
    name = forms.CharField(
        label="Name",
        max_length=700,
        required=False,
        help_text="Of the team, user or model, or the prefix of a key; empty for the other two.",
        widget=UnfoldAdminTextInputWidget,
    )
    unit = forms.ChoiceField(
        label="Of what", choices=LimitUnit.choices, widget=UnfoldAdminSelectWidget
    )
    period = forms.ChoiceField(
        label="In what time",
        choices=LimitPeriod.choices,
        required=False,
        help_text="None for parallel requests. Days and months are those of UTC.",
        widget=UnfoldAdminSelectWidget,
    )
    field_order = ("subject", "name", "unit", "period", "amount")


def _set(doing: Doing, _row: None) -> None:
    values = doing.values
    limit_rules.put_rule(
        doing.by,
        NewRule(
            subject=values["subject"],
            name=values["name"],
            unit=values["unit"],
            period=values["period"],
            amount=values["amount"],
        ),
    )


def _change(doing: Doing, rule: LimitRule) -> None:
    limit_rules.change_amount(doing.by, rule.pk, doing.values["amount"])


def _remove(doing: Doing, rule: LimitRule) -> None:
    limit_rules.remove_rule(doing.by, rule.pk)


class LimitRuleAdmin(Panel):
    """Limits that have been decided; the site's settings hold besides."""

    is_for_auditors = True
    acts = (
        Act(
            name="set",
            label="Set a limit",
            explains="All limits that concern a request hold together. For one user, a limit of "
            "theirs takes the place of the one for each user. One that is there is replaced.",
            do=_set,
            form=RuleForm,
            is_of_none=True,
        ),
        Act(
            name="change",
            label="Change the amount",
            explains="It holds within a second, in every process.",
            do=_change,
            form=AmountForm,
            initial=lambda rule: {"amount": rule.amount},
            is_single=True,
        ),
        Act(
            name="remove",
            label="Remove",
            explains="These limits hold no longer.",
            do=_remove,
            is_grave=True,
        ),
    )
    fields = ("subject", *_RELATED, "unit", "period", "amount", "created_at", "changed_at")
    list_display = ("limit", "whose", "subject", "changed_at")
    list_display_links = ("limit",)
    list_filter = ("subject", "unit")
    search_fields = ("team__name", "user__username", "key__prefix", "model__name")
    sortable_by = ("subject", "changed_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LimitRule]:
        """Return all limits with what they are about."""
        rows: QuerySet[LimitRule] = super().get_queryset(request)
        return rows.select_related(*_RELATED).defer("key__secret_hash", "user__password")

    @display(description="limit")
    def limit(self, rule: LimitRule) -> str:
        """Return how much of what in what time."""
        per = f" per {rule.period}" if rule.period else ""
        return f"{rule.amount:,} {rule.unit}{per}"

    @display(description="for")
    def whose(self, rule: LimitRule) -> str:
        """Return the name of whose use it is."""
        return str(rule.team or rule.user or rule.key or rule.model or "-")


site.register(LimitRule, LimitRuleAdmin)
