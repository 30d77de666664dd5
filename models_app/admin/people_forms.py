"""Forms of the acts on people, teams and invites. Knows no service and no rule of theirs."""

from typing import Any, Final

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from models_app.permissions import SiteRole, TeamRole

SITE_ROLES: Final = [
    (str(SiteRole.NONE), "none"),
    (str(SiteRole.OPERATOR), "operator: models, jobs and nodes"),
    (str(SiteRole.AUDITOR), "auditor: looks at users, limits and records"),
]
_TEAM_ROLES: Final = [(str(role), str(role)) for role in TeamRole]
_DAYS: Final = 86400.0


def _text(label: str, *, required: bool = True, help_text: str = "") -> forms.CharField:
    return forms.CharField(
        label=label,
        max_length=1000,
        required=required,
        help_text=help_text,
        widget=UnfoldAdminTextInputWidget,
    )


def _choice(label: str, choices: list[tuple[str, str]], *, required: bool = True) -> Any:
    return forms.ChoiceField(
        label=label, choices=choices, required=required, widget=UnfoldAdminSelectWidget
    )


def _yes(label: str, help_text: str = "") -> forms.BooleanField:
    return forms.BooleanField(
        label=label, required=False, help_text=help_text, widget=UnfoldBooleanWidget
    )


class RolesForm(forms.Form):
    """What somebody may do for the whole site."""

    is_admin = _yes("Administrator", "May do everything that is administrative.")
    site_role = _choice("Role", SITE_ROLES, required=False)


class NewUserForm(RolesForm):
    """An account for somebody, who chooses a password by the link that is shown."""

    name = _text("User name")
    field_order = ("name", "is_admin", "site_role")


class DeleteUserForm(forms.Form):
    """Whether models go too."""

    with_models = _yes("Delete their models too")


class DeleteTeamForm(forms.Form):
    """Whether models go too."""

    with_models = _yes("Delete the team's models too")


class NewTeamForm(forms.Form):
    """A team with its first owner."""

    name = _text("Name", help_text="Also of its namespace.")
    description = _text("Description", required=False)
    owner = _text("First owner", required=False, help_text="A user name.")


class TeamForm(forms.Form):
    """What is said of a team, and what its members may use."""

    description = _text("Description", required=False)
    allowed_models = _text(
        "Shared models its members may use",
        required=False,
        help_text="Patterns such as llama* qwen3:*, with blanks between; empty: no list.",
    )


class MemberForm(forms.Form):
    """Who is in a team, and as what."""

    user = _text("User name")
    role = _choice("Role", _TEAM_ROLES)


class FormerMemberForm(forms.Form):
    """Who leaves a team."""

    user = _text("User name")


class InviteForm(forms.Form):
    """For whom an invite is. `kept_s` is in its cleaned data; None: as the site says."""

    team = _text("Team", required=False, help_text="Empty: an account on this site, in no team.")
    role = _choice("Role in the team", _TEAM_ROLES)
    note = _text("Note", required=False, help_text="For whom it is; shown to administrators.")
    days = forms.IntegerField(
        label="Good for (days)",
        required=False,
        min_value=1,
        max_value=3650,
        help_text="Empty: as the site's settings say.",
        widget=UnfoldAdminIntegerFieldWidget,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].initial = str(TeamRole.MEMBER)

    def clean(self) -> dict[str, Any]:
        """Add how long it is good, in seconds."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        days = cleaned.get("days")
        return cleaned | {"kept_s": days * _DAYS if days else None}
