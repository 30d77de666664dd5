"""Forms of what is done with a model: copy, delete, who may use it, how long it stays loaded.

They call the services that the API calls, and say what is wrong beside the fields. Know no engine.
"""

import math
from typing import Any, ClassVar, Final

from django import forms

from models_app import grants, selectors
from models_app.errors import InvalidModelName
from models_app.grants import AccessChange, Granted
from models_app.model_access import GRANTED_VERBS
from models_app.model_places import VISIBILITIES, chosen_visibility
from models_app.names import ModelName
from models_app.page_forms import sentence_of
from models_app.permissions import Principal, Verb
from ollamasite.errors import BadRequest, ServiceError
from registry import library
from registry.catalogue import Sheet

_NAME_ATTRS: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
_MAX_NAME_CHARS: Final = 600
_WORDS: Final = {
    "private": "Private: only those it belongs to",
    "team": "Team: every member of its team",
    "everyone": "Everyone on this site",
}
_VERB_WORDS: Final = {
    Verb.USE: "use it",
    Verb.PULL: "download and copy it",
    Verb.PUSH: "push new versions",
    Verb.MANAGE: "do everything with it",
}
STAYS: Final = (
    ("", "as usual"),
    ("3600", "for an hour after each use"),
    ("inf", "until it is unloaded"),
)


class _ActForm(forms.Form):
    """A form that calls a service, and begins at the first field that is wrong."""

    first: ClassVar[str] = ""

    def __init__(self, *args: Any, sheet: Sheet, by: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sheet = sheet
        self.by = by

    def do(self) -> bool:
        """Do what is asked; False: something is wrong, and said in the form."""
        if not self.is_valid():
            return self._tell()
        try:
            self.act()
        except ServiceError as error:
            self.add_error(self.first or None, sentence_of(error))
            return self._tell()
        return True

    def act(self) -> None:
        """Call the service."""
        raise NotImplementedError

    def _tell(self) -> bool:
        wrong = next((name for name in self.errors if name in self.fields), self.first)
        if wrong:
            self.fields[wrong].widget.attrs["autofocus"] = True
        return False


class CopyForm(_ActForm):
    """Another name for a model."""

    first = "destination"
    destination = forms.CharField(
        label="New name",
        max_length=_MAX_NAME_CHARS,
        error_messages={"required": "Enter the new name."},
        widget=forms.TextInput(attrs=_NAME_ATTRS),
    )
    replaces = forms.BooleanField(label="Replace the model of this name", required=False)
    # Whether the box is shown: somebody has chosen a name that is there.
    asks_to_replace = False

    def clean_destination(self) -> str:
        """Refuse what is no name before anything else is asked."""
        text: str = self.cleaned_data["destination"]
        try:
            ModelName.parse(text)
        except InvalidModelName as error:
            sentence = "This is no name for a model. Names look like my-model, my-model:v2 or "
            raise forms.ValidationError(f"{sentence}{self.by.namespace}/my-model.") from error
        return text

    def act(self) -> None:
        """Copy the model, over another only where that was wanted."""
        target = library.write_target(self.by, ModelName.parse(self.cleaned_data["destination"]))
        if target.full.lower() == self.sheet.model.full_name.lower():
            sentence = "This is the model's own name: choose another."
            raise BadRequest(sentence)
        if selectors.is_tag(target) and not self.cleaned_data["replaces"]:
            self.asks_to_replace = True
            sentence = f"There is a model {target.short} already: tick the box to replace it."
            raise BadRequest(sentence)
        library.copy_model(self.by, self.sheet.link, target.full)
        self.made = target.short


class DeleteForm(_ActForm):
    """A tag, or a model with all of its tags, whose name is typed once more."""

    first = "typed"
    what = forms.ChoiceField(
        label="What to delete",
        choices=(("tag", "only this tag"), ("model", "the model with all of its tags")),
        initial="tag",
        required=False,
        widget=forms.RadioSelect,
    )
    typed = forms.CharField(
        label="Type its name",
        max_length=_MAX_NAME_CHARS,
        error_messages={"required": "Type the name of what is to be deleted."},
        widget=forms.TextInput(attrs=_NAME_ATTRS),
    )

    @property
    def doomed(self) -> list[str]:
        """The names that go."""
        if self.data.get("what") == "model":
            return [tag.name for tag in self.sheet.tags]
        return [self.sheet.model.name]

    def clean(self) -> dict[str, Any]:
        """Compare what was typed with what is to go."""
        cleaned = super().clean() or self.cleaned_data
        is_whole = cleaned.get("what") == "model"
        wanted = self.sheet.base_name if is_whole else self.sheet.model.name
        if "typed" in cleaned and cleaned["typed"] != wanted:
            self.add_error("typed", f"This is not {wanted}. Nothing has been deleted.")
        return cleaned

    def act(self) -> None:
        """Delete one name after the other, the one that was looked at last."""
        own = self.sheet.model.name
        for name in sorted(self.doomed, key=lambda name: (name == own, name)):
            library.delete_model(self.by, ModelName.parse(name).full)


class VisibilityForm(_ActForm):
    """Who sees a model besides those it belongs to."""

    first = "visibility"
    visibility = forms.ChoiceField(
        label="Seen by", choices=[(name, _WORDS.get(name, name)) for name in VISIBILITIES]
    )

    def __init__(self, *args: Any, sheet: Sheet, by: Principal, **kwargs: Any) -> None:
        super().__init__(*args, sheet=sheet, by=by, **kwargs)
        if sheet.place.team_id is None:
            field = self.fields["visibility"]
            field.choices = [  # type: ignore[attr-defined] # a ChoiceField
                (name, words) for name, words in _WORDS.items() if name != "team"
            ]

    def act(self) -> None:
        """Set it."""
        wanted = chosen_visibility(self.cleaned_data["visibility"])
        _change(self.sheet, AccessChange(visibility=wanted), self.by)


class GrantForm(_ActForm):
    """What a user or a team may do with a model besides."""

    first = "to"
    to = forms.CharField(
        label="User or team",
        max_length=150,
        error_messages={"required": "Enter the name of a user or a team."},
        widget=forms.TextInput(attrs=_NAME_ATTRS),
    )
    verb = forms.ChoiceField(
        label="May",
        choices=[(str(verb), _VERB_WORDS[verb]) for verb in GRANTED_VERBS],
        initial=str(Verb.USE),
    )

    def act(self) -> None:
        """Grant it."""
        granted = Granted(self.cleaned_data["to"], Verb(self.cleaned_data["verb"]))
        _change(self.sheet, AccessChange(add=(granted,)), self.by)


class RevokeForm(GrantForm):
    """The same, taken back."""

    def act(self) -> None:
        """Take it back."""
        granted = Granted(self.cleaned_data["to"], Verb(self.cleaned_data["verb"]))
        _change(self.sheet, AccessChange(remove=(granted,)), self.by)


class LoadForm(forms.Form):
    """How long a model stays in memory once it is there."""

    stays = forms.ChoiceField(choices=STAYS, required=False)

    @property
    def keep_alive_s(self) -> float | None:
        """The wish; None: as usual. Infinite: until it is unloaded."""
        text = self.cleaned_data.get("stays", "") if self.is_valid() else ""
        return None if not text else math.inf if text == "inf" else float(text)


def granted_words(verb: Verb) -> str:
    """Return what a right lets somebody do."""
    return _VERB_WORDS[verb]


def _change(sheet: Sheet, change: AccessChange, by: Principal) -> None:
    grants.change_access(ModelName.parse(sheet.model.full_name), change, by=by)
