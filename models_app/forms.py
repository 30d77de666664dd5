"""Forms of the pages about accounts. Knows no page and no API."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UsernameField


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
