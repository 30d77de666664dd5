"""Forms about API keys. They call `models_app.keys` and say what is wrong. Know no page."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from models_app import keys
from models_app.keys import KeyRules, NewKey
from models_app.limit_kinds import MOST
from models_app.limit_rules import NewLimit
from models_app.name_patterns import check_patterns
from models_app.page_forms import PageForm, sentence_of, text_field
from models_app.permissions import Principal, Scope
from ollamasite.errors import BadRequest

_ALL: Final = "all"
_CHOSEN: Final = "chosen"
_REACHES: Final[dict[str, tuple[Scope, ...]]] = {
    "use": (Scope.READ, Scope.USE),
    "write": (Scope.READ, Scope.USE, Scope.WRITE),
    _ALL: (),
}
_REACH_WORDS: Final = (
    ("use", "Use models: see them, send requests"),
    ("write", "Use and change models: also pull, create, copy, delete"),
    (_ALL, "Everything that you may, your keys and teams too"),
    (_CHOSEN, "Chosen one by one"),
)
_SCOPE_WORDS: Final = (
    (str(Scope.READ), "See models and what is in memory"),
    (str(Scope.USE), "Use models: chat, generate, embed"),
    (str(Scope.WRITE), "Change models: pull, create, copy, push, delete"),
    (str(Scope.ADMIN), "Administer: keys, teams, and the site where you do"),
)
_ON_A_DAY: Final = "day"
_NEVER: Final = "never"
_EXPIRIES: Final = (
    ("7", "in 7 days"),
    ("30", "in 30 days"),
    ("90", "in 90 days"),
    ("365", "in a year"),
    (_ON_A_DAY, "at the end of a day …"),
    (_NEVER, "never"),
)
_LONGEST: Final = timedelta(days=36500)
_OVERLAPS: Final = (
    ("1", "for another hour"),
    ("24", "for another day"),
    ("168", "for another 7 days"),
    ("720", "for another 30 days"),
    ("0", "no longer: it ends now"),
)
# By the field's name: the unit, the period, what it is called.
_LIMITS: Final = {
    "requests_minute": ("requests", "minute", "Requests a minute"),
    "tokens_minute": ("tokens", "minute", "Tokens a minute"),
    "tokens_day": ("tokens", "day", "Tokens a day"),
    "tokens_month": ("tokens", "month", "Tokens a month"),
    "parallel": ("parallel", "", "Requests at the same time"),
}
_SPLIT: Final = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChoices:
    """What a form offers: one's teams, service accounts one makes keys for, models one sees."""

    teams: tuple[str, ...] = ()
    services: tuple[tuple[str, str], ...] = ()  # each with its team
    models: tuple[str, ...] = ()


class NewKeyForm(PageForm):
    """All that a key may be narrowed to. Empty fields narrow nothing."""

    name = text_field("Name", required="Give the key a name.", most=100, placeholder="laptop")
    owner = forms.ChoiceField(label="Whose key it is", required=False)
    team = forms.ChoiceField(label="Its use counts to", required=False)
    expires = forms.ChoiceField(label="It expires", choices=_EXPIRIES, initial="90")
    expires_on = forms.DateField(
        label="On which day",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    reach = forms.ChoiceField(
        label="What it may do", choices=_REACH_WORDS, initial="use", widget=forms.RadioSelect
    )
    scopes = forms.MultipleChoiceField(
        label="One by one",
        required=False,
        choices=_SCOPE_WORDS,
        widget=forms.CheckboxSelectMultiple,
    )
    models = forms.MultipleChoiceField(
        label="Of the models that you see", required=False, widget=forms.CheckboxSelectMultiple
    )
    patterns = text_field("By patterns of names", most=6000, placeholder="llama* alice/*")
    networks = text_field("Networks", most=3000, placeholder="10.0.0.0/8 192.0.2.7")

    def __init__(self, data: Any = None, *, by: Principal, choices: KeyChoices) -> None:
        super().__init__(data)
        self._by = by
        self._choose("owner", by.username, choices.services)
        self._choose("team", "your home team", [(name, name) for name in choices.teams])
        self._choose("models", None, [(name, name) for name in choices.models])
        for name, (_, _, label) in _LIMITS.items():
            self.fields[name] = _limit_field(label)

    def _choose(self, field: str, nothing: str | None, offered: Iterable[tuple[str, str]]) -> None:
        """Offer these; a field that offers nothing else is left out."""
        found = [(name, name if name == of else f"{name} ({of})") for name, of in offered]
        if not found:
            del self.fields[field]
            return
        first = [("", nothing)] if nothing is not None else []
        self.fields[field].choices = [*first, *found]  # type: ignore[attr-defined] # ChoiceField

    @property
    def limits(self) -> list[forms.BoundField]:
        """The fields of limits."""
        return [self[name] for name in _LIMITS]

    @property
    def is_narrowed(self) -> bool:
        """Whether something stands in the fields that most people leave empty, or is wrong there.

        Such fields must not be folded away.
        """
        names = ("models", "patterns", "networks", *_LIMITS)
        return any(self[name].value() or self[name].errors for name in names if name in self.fields)

    def clean_patterns(self) -> tuple[str, ...]:
        """Return each pattern. Raises ValidationError."""
        return check_patterns(_words(self.cleaned_data["patterns"]))

    def clean_networks(self) -> tuple[str, ...]:
        """Return each network. Raises ValidationError."""
        return _told(lambda: keys.check_networks(_words(self.cleaned_data["networks"])))

    def clean(self) -> dict[str, Any]:
        """Say what is missing in what one choice asks of another."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("expires") == _ON_A_DAY and "expires_on" in cleaned:
            self._require_day(cleaned["expires_on"])
        if cleaned.get("reach") == _CHOSEN and not cleaned.get("scopes"):
            self.add_error("scopes", "Choose at least one.")
        return cleaned

    def _require_day(self, day: Any) -> None:
        if day is None:
            self.add_error("expires_on", "Choose the day.")
        elif day < timezone.localdate():
            self.add_error("expires_on", "Choose a day that is not over.")
        elif day > timezone.localdate() + _LONGEST:  # as the API; some zones' year 9999 has no end
            self.add_error("expires_on", "Choose a day of the next hundred years.")

    def make(self) -> NewKey | None:
        """Make the key, or say what is wrong and return None."""
        return self.attempt(self._make)

    def _make(self) -> NewKey:
        typed = self.cleaned_data
        rules = KeyRules(
            scopes=self._scopes(),
            models=(*typed.get("models", ()), *typed["patterns"]),
            networks=typed["networks"],
            expires_at=self._expiry(),
            team=typed.get("team", ""),
        )
        limits = [
            NewLimit(unit=unit, period=period, amount=typed[name])
            for name, (unit, period, _) in _LIMITS.items()
            if typed[name] is not None
        ]
        owner = typed.get("owner", "")
        return keys.make_key(self._by, typed["name"], rules, owner_name=owner, limits=limits)

    def _scopes(self) -> tuple[Scope, ...]:
        chosen = self.cleaned_data["reach"]
        if chosen == _CHOSEN:
            return tuple(Scope(text) for text in self.cleaned_data["scopes"])
        return _REACHES[chosen]

    def _expiry(self) -> datetime | None:
        chosen = self.cleaned_data["expires"]
        if chosen == _NEVER:
            return None
        if chosen == _ON_A_DAY:
            last = datetime.combine(self.cleaned_data["expires_on"], time.max)
            return timezone.make_aware(last)
        return timezone.now() + timedelta(days=int(chosen))


class RenameKeyForm(PageForm):
    """Another name for a key."""

    name = text_field("Name", required="Give the key a name.", most=100)

    def rename(self, by: Principal, prefix: str) -> keys.KeyRecord | None:
        """Rename it, or say what is wrong and return None. Raises KeyNotFound, Forbidden."""
        return self.attempt(lambda: keys.rename_key(by, prefix, self.cleaned_data["name"]))


class RotateKeyForm(PageForm):
    """How long the old secret is good beside the new one."""

    overlap = forms.ChoiceField(
        label="The secret until now is good", choices=_OVERLAPS, initial="24"
    )

    def rotate(self, by: Principal, prefix: str) -> NewKey | None:
        """Rotate it, or say what is wrong and return None. Raises KeyNotFound, Forbidden."""
        return self.attempt(lambda: keys.rotate_key(by, prefix, overlap=self._overlap()))

    def _overlap(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["overlap"]))


def _limit_field(label: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        required=False,
        min_value=1,
        max_value=MOST,
        widget=forms.NumberInput(attrs={"inputmode": "numeric", "placeholder": "no limit"}),
    )


def _words(text: str) -> list[str]:
    return [word for word in _SPLIT.split(text) if word]


def _told(read: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """Return what is read, or have the form say what is wrong."""
    try:
        return read()
    except BadRequest as error:
        raise ValidationError(sentence_of(error)) from error
