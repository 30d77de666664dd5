"""Forms of the pages about accounts. Knows no page and no API."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.core.exceptions import ValidationError

from models_app.client_keys import add_client_key
from models_app.models import ClientKey, User
from models_app.permissions import Principal


class SignInForm(AuthenticationForm):
    """User name and password. Says in one sentence what is wrong, never which of the two."""

    username = UsernameField(
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    password = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    # Closed accounts get the same answer: a stranger must not learn which names exist.
    _no_match = "This user name and password do not match. Check both and try again."
    error_messages = {"invalid_login": _no_match, "inactive": _no_match}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Whoever has typed a name already goes on with the password.
        begins_at = "password" if self.is_bound and self.data.get("username") else "username"
        self.fields[begins_at].widget.attrs["autofocus"] = True

    @property
    def error_sentence(self) -> str:
        """What to tell the person, or an empty text."""
        if not self.errors:
            return ""
        if any(
            error.code == "required" for field in self.errors.as_data().values() for error in field
        ):
            return "Enter your user name and your password."
        return self._no_match


class ClientKeyForm(forms.Form):
    """A public key to register and what to call it. Says what is wrong beside the field."""

    public_key = forms.CharField(
        max_length=4000,
        error_messages={"required": "Paste the public key."},
        widget=forms.Textarea(
            attrs={
                "rows": 3,
                "spellcheck": "false",
                "autocomplete": "off",
                "autocapitalize": "none",
                "placeholder": "ssh-ed25519 AAAA…",
            }
        ),
    )
    name = forms.CharField(
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "laptop"}),
    )

    def register(self, owner: User, *, by: Principal | None = None) -> ClientKey | None:
        """Register the key, or say what is wrong with it and return None."""
        if not self.is_valid():
            return None
        fields = self.cleaned_data
        try:
            return add_client_key(owner, fields["public_key"], fields["name"], by=by)
        except ValidationError as error:
            self.add_error("public_key", error)
            return None

    def add_error(self, field: Any, error: Any) -> None:
        """Note what is wrong, and begin at the field that is to be corrected."""
        super().add_error(field, error)
        self.fields[next(iter(self.errors))].widget.attrs["autofocus"] = True
