"""Forms about oneself. They call the services and say what is wrong. Know no page."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from models_app import own_data, people, sign_ins
from models_app.page_forms import PageForm, text_field
from models_app.permissions import Principal
from ollamasite.errors import Forbidden


class HomeTeamForm(PageForm):
    """The team that one's use counts to where a key names none."""

    team = forms.ChoiceField(label="Your use counts to", required=False)

    def __init__(self, data: Any = None, *, by: Principal, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        self._by = by
        offered = [(place.name, place.name) for place in by.teams]
        self.fields["team"].choices = [("", "no team"), *offered]  # type: ignore[attr-defined] # ChoiceField

    def save(self) -> bool:
        """Choose it, or say what is wrong."""
        return bool(self.attempt(self._save))

    def _save(self) -> bool:
        people.set_home_team(self._by.username, self.cleaned_data["team"], by=self._by)
        return True


class DeleteAccountForm(PageForm):
    """The end of one's account: its name is typed, and the password again."""

    confirm = text_field("Type your user name", most=150)
    password = forms.CharField(
        label="Your password",
        strip=False,
        max_length=4096,
        error_messages={"required": "Enter your password."},
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, data: Any = None, *, request: HttpRequest, by: Principal) -> None:
        super().__init__(data)
        self._request = request
        self._by = by

    def clean_confirm(self) -> str:
        """Say so where it is another name."""
        typed: str = self.cleaned_data["confirm"]
        if typed.lower() != self._by.username.lower():
            raise ValidationError("This is not your user name.")
        return typed

    def clean_password(self) -> str:
        """Say so where it is wrong; tries are counted. Raises TooManyAttempts."""
        password: str = self.cleaned_data["password"]
        if "confirm" not in self.cleaned_data:
            return password  # nothing is going to be deleted
        try:
            sign_ins.require_password(self._request, self._by, password)
        except Forbidden as error:
            raise ValidationError("The password is wrong.") from error
        return password

    def delete(self) -> bool:
        """Delete the account with all that is its own, or say what is wrong."""
        return bool(self.attempt(self._delete))

    def _delete(self) -> bool:
        own_data.forget(self._by.username, by=self._by)
        self._request.session.flush()
        return True
