"""The form that has a model pulled, and what it says while the name is typed. Knows no page."""

from dataclasses import dataclass
from typing import Any

from django import forms

from models_app import selectors
from models_app.jobs import JobRecord
from models_app.names import DEFAULT_HOST
from models_app.permissions import Principal
from ollamasite.errors import ServiceError
from registry.jobs.asking import Transfer, ask_pull, places_of_pull

_NAME_SHAPE = (
    "A name is [host/][namespace/]model[:tag], for example llama3.2:3b or "
    "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M."
)


@dataclass(frozen=True, slots=True)
class PullPlaces:
    """From where a model would come, and what it would be called here."""

    registry: str
    repository: str
    tag: str
    stored_name: str
    is_here: bool


class PullForm(forms.Form):
    """What to pull."""

    name = forms.CharField(
        max_length=700,
        error_messages={"required": "Write the name of a model."},
        widget=forms.TextInput(
            attrs={
                "autocomplete": "off",
                "autocapitalize": "none",
                "spellcheck": "false",
                "placeholder": "llama3.2:3b",
            }
        ),
    )
    is_insecure = forms.BooleanField(required=False)
    username = forms.CharField(
        required=False,
        max_length=16_000,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    password = forms.CharField(
        required=False,
        max_length=16_000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )

    def submit(self, principal: Principal) -> JobRecord | None:
        """Have the model pulled; None where that is refused, and the form says why."""
        if not self.is_valid():
            return None
        try:
            return ask_pull(principal, self._wanted())
        except ServiceError as error:
            self.add_error("name", _in_words(error))
            return None

    def places(self, principal: Principal) -> PullPlaces | None:
        """Return where the model is and would be; None where there is nothing to pull."""
        if not self.is_valid():
            return None
        try:
            target, remote = places_of_pull(principal, self._wanted())
        except ServiceError as error:
            self.add_error("name", _in_words(error))
            return None
        return PullPlaces(
            registry=remote.origin.authority,
            repository=remote.repository,
            tag=remote.tag,
            stored_name=target.short,
            is_here=selectors.find_tag(principal, target) is not None,
        )

    @property
    def has_details(self) -> bool:
        """Whether something is said that is folded away otherwise."""
        return any(self[name].value() for name in ("is_insecure", "username"))

    def _wanted(self) -> Transfer:
        said: dict[str, Any] = self.cleaned_data
        return Transfer(
            name=said["name"],
            is_insecure=said["is_insecure"],
            username=said["username"],
            password=said["password"],
            is_detached=True,
        )


def _in_words(error: ServiceError) -> str:
    if error.code == "invalid_model_name":
        return f"This is no name of a model. {_NAME_SHAPE}"
    return error.message[:1].upper() + error.message[1:]


def examples(default_registry: str) -> list[tuple[str, str]]:
    """Return names to begin with, and what they are, for those who see the form empty."""
    home = default_registry.removeprefix("https://").removeprefix("http://") or DEFAULT_HOST
    return [
        ("llama3.2:3b", f"from {home}"),
        ("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "a GGUF file of Hugging Face"),
    ]
