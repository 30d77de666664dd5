"""Forms by which people come in: a new account, a place in a team, a new password.

They call the services and say what is wrong beside the fields. Know no page and no API.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from models_app import invites, people, sign_ins
from models_app.models import User
from models_app.permissions import CredentialKind
from models_app.principals import principal_of_user
from ollamasite.errors import Conflict, Forbidden

if TYPE_CHECKING:
    _SetPasswordForm = SetPasswordForm[User]
else:
    _SetPasswordForm = SetPasswordForm

_UNLIKE: Final = "The two passwords are not the same."


def _password_field(autocomplete: str = "new-password") -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": autocomplete})
    return forms.CharField(
        strip=False, max_length=4096, widget=widget, error_messages={"required": "Enter it."}
    )


class _FirstWrongField(forms.Form):
    """A form in which typing begins, or goes on, at the first field that is to be filled."""

    def begin(self) -> None:
        """Put the cursor there. To be called when the form is about to be shown."""
        name = next(iter(self.errors), "") or next(iter(self.fields))
        if name in self.fields:
            self.fields[name].widget.attrs["autofocus"] = True


class NewAccountForm(_FirstWrongField):
    """User name and password, twice, of somebody who makes an account."""

    username = forms.CharField(
        max_length=80,
        error_messages={"required": "Choose a user name."},
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    password = _password_field()
    again = _password_field()

    def clean(self) -> dict[str, Any]:
        """Compare the two passwords."""
        cleaned = super().clean() or self.cleaned_data
        if "password" in cleaned and "again" in cleaned and cleaned["password"] != cleaned["again"]:
            self.add_error("again", _UNLIKE)
        return cleaned

    def make(self, account: Callable[[str, str], User]) -> User | None:
        """Make the account with a function of name and password; None: something is wrong."""
        if not self.is_valid():
            return None
        try:
            return account(self.cleaned_data["username"], self.cleaned_data["password"])
        except ValidationError as error:
            self.add_error(None, error)
            return None
        except Conflict as error:
            self.add_error(None, error.message)
            return None


class JoinForm(forms.Form):
    """No field: the button by which somebody who is signed in joins a team."""

    def join(self, invite_id: int, user: User) -> str | None:
        """Return the team's name, or say what is wrong and return None. Raises InviteNotFound."""
        if not self.is_valid():
            return None
        try:
            return invites.accept(invite_id, by=principal_of_user(user, CredentialKind.SESSION))
        except Conflict as error:
            self.add_error(None, error.message)
            return None


class NewPasswordForm(_SetPasswordForm):
    """A new password by a one-time link."""

    def save(self, commit: bool = True) -> User:  # noqa: FBT001, FBT002 - Django's own
        """Set it."""
        del commit
        return _save(self.user, self.cleaned_data["new_password1"])


class OwnPasswordForm(PasswordChangeForm):
    """A new password after the old one, which is asked for as at a sign-in: tries are counted."""

    def __init__(self, user: User, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(user, *args, **kwargs)
        self._request = request

    def clean_old_password(self) -> str:
        """Say so where it is wrong. Raises TooManyAttempts."""
        old: str = self.cleaned_data["old_password"]
        by = principal_of_user(self.user, CredentialKind.SESSION)
        try:
            sign_ins.require_password(self._request, by, old)
        except Forbidden as error:
            raise ValidationError(
                self.error_messages["password_incorrect"], code="password_incorrect"
            ) from error
        return old

    def save(self, commit: bool = True) -> User:  # noqa: FBT001, FBT002 - Django's own
        """Set it."""
        del commit
        return _save(self.user, self.cleaned_data["new_password1"])


def _save(user: User, password: str) -> User:
    people.set_password(user, password, by=principal_of_user(user, CredentialKind.SESSION))
    return user
