"""Forms about teams and invites. They call the services and say what is wrong. Know no page.

Who may do something is asked before what was typed is looked at.
"""

from typing import ClassVar, Final

from django import forms

from models_app import authority, invites, teams
from models_app.invites import NewInvite
from models_app.page_forms import PageForm, text_field
from models_app.permissions import Principal, TeamRole
from models_app.teams import SERVICE_ROLES

_ROLE_WORDS: Final = {
    TeamRole.VIEWER: "viewer: sees its models and members",
    TeamRole.MEMBER: "member: uses its models",
    TeamRole.MAINTAINER: "maintainer: changes its models, makes its service keys",
    TeamRole.OWNER: "owner: members, invites, the team itself",
}
_ROLES: Final = [(str(role), words) for role, words in _ROLE_WORDS.items()]
_SHORT_ROLES: Final = [(str(role), str(role)) for role in TeamRole]
_DAYS: Final = [("1", "for a day"), ("7", "for 7 days"), ("30", "for 30 days")]
_DAY_S: Final = 86400.0


class NewTeamForm(PageForm):
    """A team and its first owner."""

    name = text_field("Name", required="Give the team a name.", most=80, placeholder="vision")
    description = text_field("What it is about", most=200)
    owner = text_field("Its first owner", most=150, placeholder="a user’s name")

    def save(self, by: Principal) -> str | None:
        """Make the team and return its name, or say what is wrong. Raises Forbidden."""
        authority.require_admin(by)
        return self.attempt(lambda: self._save(by))

    def _save(self, by: Principal) -> str:
        typed = self.cleaned_data
        made = teams.create_team(
            typed["name"], description=typed["description"], owner=typed["owner"], by=by
        )
        return made.name


class TeamForm(PageForm):
    """A form on a team's page. `place`: what the page calls it."""

    place: ClassVar[str]

    def save(self, by: Principal, team: str) -> bool:
        """Do what was asked, or say what is wrong. Raises TeamNotFound, Forbidden."""
        authority.require_team_role(by, team, TeamRole.OWNER)
        return bool(self.attempt(lambda: self._save(by, team)))

    def _save(self, by: Principal, team: str) -> bool:
        raise NotImplementedError


class DescriptionForm(TeamForm):
    """What is said of a team."""

    place = "description_form"
    description = text_field("What it is about", most=200)

    def _save(self, by: Principal, team: str) -> bool:
        teams.change_team(team, description=self.cleaned_data["description"], by=by)
        return True


class AllowedModelsForm(TeamForm):
    """Which of the shared models a team's members may use. For administrators."""

    place = "allowed_form"
    allowed_models = text_field("Shared models that its members may use", most=1000)

    def save(self, by: Principal, team: str) -> bool:
        """Change the list, or say what is wrong. Raises Forbidden."""
        authority.require_admin(by)
        return super().save(by, team)

    def _save(self, by: Principal, team: str) -> bool:
        teams.change_team(team, allowed_models=self.cleaned_data["allowed_models"], by=by)
        return True


class MemberForm(TeamForm):
    """Somebody to take in. For administrators."""

    place = "member_form"
    username = text_field("User name", required="Who shall it be?", most=150)
    role = forms.ChoiceField(label="As", choices=_ROLES, initial=str(TeamRole.MEMBER))

    def save(self, by: Principal, team: str) -> bool:
        """Take them in, or say what is wrong. Raises Forbidden."""
        authority.require_admin(by)
        return super().save(by, team)

    def _save(self, by: Principal, team: str) -> bool:
        typed = self.cleaned_data
        teams.set_member(team, typed["username"], TeamRole(typed["role"]), by=by)
        return True


class RoleForm(TeamForm):
    """Another role for a member."""

    place = "role_form"
    role = forms.ChoiceField(choices=_SHORT_ROLES)

    def __init__(self, data: object = None, *, username: str = "") -> None:
        super().__init__(data)  # type: ignore[arg-type] # a form's data
        self._username = username

    def _save(self, by: Principal, team: str) -> bool:
        teams.set_member(team, self._username, TeamRole(self.cleaned_data["role"]), by=by)
        return True


class ServiceAccountForm(TeamForm):
    """An account for a team's programs."""

    place = "service_form"
    name = text_field("Name", required="Give the account a name.", most=80)
    role = forms.ChoiceField(
        label="As", choices=[(str(role), _ROLE_WORDS[role]) for role in SERVICE_ROLES]
    )

    def _save(self, by: Principal, team: str) -> bool:
        typed = self.cleaned_data
        teams.create_service_account(team, typed["name"], TeamRole(typed["role"]), by=by)
        return True


class DeleteTeamForm(TeamForm):
    """The end of a team, whose name is typed for it."""

    place = "delete_form"
    confirm = text_field("Type the team’s name", most=80)
    with_models = forms.BooleanField(label="Delete its models too", required=False)

    def _save(self, by: Principal, team: str) -> bool:
        if self.cleaned_data["confirm"].lower() != team.lower():
            self.add_error("confirm", "This is not the team’s name.")
            return False
        teams.delete_team(team, with_models=self.cleaned_data["with_models"], by=by)
        return True


class InviteForm(PageForm):
    """A link for one person, once."""

    role = forms.ChoiceField(
        label="As", choices=_ROLES, initial=str(TeamRole.MEMBER), required=False
    )
    note = text_field("For whom it is", most=200, placeholder="only you see this")
    days = forms.ChoiceField(label="It is good", choices=_DAYS, initial="7")

    def make(self, by: Principal, team: str = "") -> NewInvite | None:
        """Make the invite, or say what is wrong. Raises TeamNotFound, Forbidden."""
        if team:
            authority.require_team_role(by, team, TeamRole.OWNER)
        else:
            authority.require_admin(by)
        return self.attempt(lambda: self._make(by, team))

    def _make(self, by: Principal, team: str) -> NewInvite:
        typed = self.cleaned_data
        return invites.create_invite(
            team_name=team,
            role=TeamRole(typed["role"] or TeamRole.MEMBER),
            note=typed["note"],
            kept_s=float(typed["days"]) * _DAY_S,
            by=by,
        )
