"""What is asked for on the pages of usage. Says beside a field what is wrong with it."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final

from django import forms
from django.http import QueryDict

from models_app import usage_periods
from models_app.models import Outcome
from models_app.usage import GROUPS, UsageQuestion
from models_app.usage_periods import Period
from ollamasite.error_responses import Dialect

_FIRST: Final = date(2000, 1, 1)
_LAST: Final = date(2100, 1, 1)
_MOST_TEXT: Final = 700
_TIMES: Final = ("hour", "day", "month")
_THINGS: Final = tuple(name for name in GROUPS if name not in _TIMES)
_DIALECTS: Final = {"native": "Ollama", "openai": "OpenAI", "anthropic": "Anthropic"}
_OUTCOMES: Final = {"done": "done", "left": "left early", "failed": "failed", "lost": "lost"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its period. `group_by` and `granularity` empty: what fits."""

    question: UsageQuestion
    period: Period
    group_by: str = ""
    granularity: str = ""
    outcome: str = ""

    @property
    def scope(self) -> str:
        """Whose use it is: `own`, `team` or `all`."""
        if self.question.is_everybodys:
            return "all"
        return "team" if self.question.team else "own"


class _Narrowing(forms.Form):
    """A period and what narrows, of whoever's use `team` and `all` name."""

    team = forms.CharField(required=False, max_length=_MOST_TEXT, widget=forms.HiddenInput)
    all = forms.BooleanField(required=False, widget=forms.HiddenInput)
    period = forms.ChoiceField(
        required=False,
        choices=[*usage_periods.NAMES, (usage_periods.OWN, "Own dates")],
        error_messages={"invalid_choice": "Choose one of the list."},
    )
    since = forms.DateField(required=False, label="From")
    until = forms.DateField(required=False, label="To, with that day")
    model = forms.CharField(required=False, max_length=_MOST_TEXT)
    key = forms.CharField(required=False, max_length=_MOST_TEXT, label="Key, by its prefix")
    user = forms.CharField(required=False, max_length=_MOST_TEXT)

    def __init__(self, data: QueryDict) -> None:
        told = data.copy()
        if not told.get("period"):
            has_days = told.get("since") or told.get("until")
            # Everybody's months are added up already; their last 30 days are thousands of rows.
            fitting = usage_periods.MONTH if told.get("all") else usage_periods.DEFAULT
            told["period"] = usage_periods.OWN if has_days else fitting
        super().__init__(told)
        for name in ("since", "until"):
            self.fields[name].widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
            self.fields[name].error_messages["invalid"] = "Write a day such as 2026-01-31."
        for name in ("model", "key", "user"):
            attrs = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
            # What is suggested stands in the page: what was used in the time shown.
            self.fields[name].widget.attrs.update(attrs, list=f"used-{name}")
        if not data.get("all") and not data.get("team"):
            del self.fields["user"]

    def clean(self) -> dict[str, Any]:
        """Ask for days that make a time."""
        fields = super().clean() or {}
        if fields.get("period") != usage_periods.OWN or self.errors:
            return fields
        for field in ("since", "until"):
            day = fields.get(field)
            if day is None:
                self.add_error(field, "Choose a day.")
            elif not _FIRST <= day <= _LAST:
                self.add_error(field, "Choose a day from 2000 to 2100.")
        if not self.errors and fields["until"] < fields["since"]:
            self.add_error("until", "This day is before the first.")
        return fields

    def add_error(self, field: Any, error: Any) -> None:
        """Note what is wrong, and begin at the first field that is to be corrected."""
        super().add_error(field, error)
        for name, bound in self.fields.items():
            bound.widget.attrs.pop("autofocus", None)
            if name in self.errors:
                bound.widget.attrs["aria-describedby"] = f"id_{name}_error"
        first = next((name for name in self.fields if name in self.errors), None)
        if first is not None:
            self.fields[first].widget.attrs["autofocus"] = True

    def asked(self, now: datetime) -> Asked:
        """Return the question of a form that is valid."""
        fields = self.cleaned_data
        if fields["period"] == usage_periods.OWN:
            period = usage_periods.own(fields["since"], fields["until"], now)
        else:
            period = usage_periods.named(fields["period"], now)
        question = UsageQuestion(
            since=period.since,
            until=period.until,
            team=fields["team"],
            is_everybodys=fields["all"],
            user=fields.get("user", ""),
            key=fields["key"],
            model=fields["model"],
        )
        return Asked(question, period)


class UsageForm(_Narrowing):
    """What the page of sums shows."""

    group_by = forms.ChoiceField(
        required=False,
        label="Group by",
        choices=[("", "what fits"), *((name, name) for name in _THINGS)],
    )
    granularity = forms.ChoiceField(
        required=False,
        label="Bars",
        choices=[("", "what fits"), *((name, f"one for each {name}") for name in _TIMES)],
    )

    def asked(self, now: datetime) -> Asked:
        """Return the question of a form that is valid."""
        fields = self.cleaned_data
        return replace(
            super().asked(now), group_by=fields["group_by"], granularity=fields["granularity"]
        )


class RequestsForm(_Narrowing):
    """Which requests the table has."""

    outcome = forms.ChoiceField(
        required=False,
        choices=[("", "any"), *((name, _OUTCOMES[name]) for name in Outcome.values)],
    )
    dialect = forms.ChoiceField(
        required=False,
        choices=[
            ("", "any"),
            *((each.value, _DIALECTS.get(each.value, each.value)) for each in Dialect),
        ],
    )

    def asked(self, now: datetime) -> Asked:
        """Return the question of a form that is valid."""
        fields = self.cleaned_data
        found = super().asked(now)
        question = replace(found.question, dialect=fields["dialect"])
        return replace(found, question=question, outcome=fields["outcome"])
