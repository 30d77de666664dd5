"""Users, teams and invites under /admin/.

What may be done is decided by `models_app.people`, `models_app.teams` and `models_app.invites`.
"""

from collections.abc import Sequence
from typing import Any, Final

from django.contrib.admin import display
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone

from models_app import invites, people, teams
from models_app.admin import people_forms as forms
from models_app.admin.acts import Act, Doing, Shown, Values
from models_app.admin.panel import Panel
from models_app.admin.site import site
from models_app.models import ApiKey, Invite, LanguageModel, Membership, Team, User
from models_app.permissions import SiteRole, TeamRole

_MOST_SHOWN: Final = 200

# ------------------------------------------------------------------ users


def _add_user(doing: Doing, _row: None) -> Shown:
    name = doing.values["name"]
    people.add_user(
        name,
        is_admin=doing.values["is_admin"],
        site_role=SiteRole(doing.values["site_role"]),
        by=doing.by,
    )
    return _link(doing, name)


def _password_link(doing: Doing, user: User) -> Shown:
    return _link(doing, user.username)


def _link(doing: Doing, name: str) -> Shown:
    path = people.password_link(name, by=doing.by)
    explains = f"By this link {name} chooses a password, once. It is shown this once."
    return Shown("A link for a password", explains, doing.absolute(path))


def _set_roles(doing: Doing, user: User) -> None:
    people.set_role(
        user.username,
        is_admin=doing.values["is_admin"],
        site_role=SiteRole(doing.values["site_role"]),
        by=doing.by,
    )


def _roles(user: User) -> Values:
    return {"is_admin": user.is_superuser, "site_role": user.site_role}


def _approve(doing: Doing, user: User) -> None:
    people.approve(user.username, by=doing.by)


def _deactivate(doing: Doing, user: User) -> None:
    people.deactivate(user.username, by=doing.by)


def _activate(doing: Doing, user: User) -> None:
    people.activate(user.username, by=doing.by)


def _end_sessions(doing: Doing, user: User) -> None:
    people.end_sessions(user.username, by=doing.by)


def _delete_user(doing: Doing, user: User) -> None:
    people.delete_user(user.username, with_models=doing.values["with_models"], by=doing.by)


def _goes_with(user: User) -> Sequence[str]:
    keys = ApiKey.objects.usable().filter(owner=user).count()
    return [f"{keys} good keys", f"{people.owned_models(user).count()} models"]


_USER_ACTS: Final = (
    Act(
        name="new",
        label="New user",
        explains="An account without a password; a link to choose one is shown afterwards.",
        do=_add_user,
        form=forms.NewUserForm,
        is_of_none=True,
    ),
    Act(
        name="approve",
        label="Approve",
        explains="They have signed up and are let in.",
        do=_approve,
        is_for=lambda user: user.awaits_approval,
    ),
    Act(
        name="roles",
        label="Roles",
        explains="What they may do for the whole site.",
        do=_set_roles,
        form=forms.RolesForm,
        initial=_roles,
        is_for=lambda user: user.service_of_id is None,
        is_single=True,
    ),
    Act(
        name="link",
        label="Password link",
        explains="A link by which they choose a new password, once.",
        do=_password_link,
        is_for=lambda user: user.is_active and user.service_of_id is None,
        is_single=True,
    ),
    Act(
        name="sessions",
        label="End sessions",
        explains="They are signed out of every browser; keys stay.",
        do=_end_sessions,
    ),
    Act(
        name="activate",
        label="Activate",
        explains="They may sign in again, and make new keys: the old ones have ended for good.",
        do=_activate,
        is_for=lambda user: not (user.is_active or user.awaits_approval),
    ),
    Act(
        name="deactivate",
        label="Deactivate",
        explains="Their sessions, keys, open streams, jobs and invites end now; keys for good.",
        do=_deactivate,
        consequences=_goes_with,
        is_for=lambda user: user.is_active,
        is_grave=True,
    ),
    Act(
        name="delete",
        label="Delete",
        explains="The account goes with its keys, chats, stored responses and jobs. Who waits for "
        "approval is refused. What has been recorded stays.",
        do=_delete_user,
        form=forms.DeleteUserForm,
        consequences=_goes_with,
        is_grave=True,
    ),
)


class UserAdmin(Panel):
    """People and service accounts."""

    is_for_auditors = True
    acts = _USER_ACTS
    fields = (
        *("name", "state", "role", "team_list", "home_team", "service_of"),
        *("key_count", "date_joined", "last_login"),
    )
    list_display = ("username", "role", "state", "home_team", "service_of", "last_login")
    list_display_links = ("username",)
    list_filter = ("is_active", "awaits_approval", "is_superuser", "site_role")
    search_fields = ("username",)
    ordering = ("username",)
    sortable_by = ("username", "last_login")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Return all accounts, without what their passwords are checked by."""
        rows: QuerySet[User] = super().get_queryset(request)
        return rows.select_related("home_team", "service_of").defer("password")

    @display(description="user name")
    def name(self, user: User) -> str:
        """Return what they sign in as."""
        return user.username

    @display(description="role")
    def role(self, user: User) -> str:
        """Return what they may do for the whole site."""
        return "administrator" if user.is_superuser else user.site_role or "-"

    @display(description="state")
    def state(self, user: User) -> str:
        """Return whether they are let in."""
        if user.awaits_approval:
            return "waits for approval"
        return "active" if user.is_active else "deactivated"

    @display(description="teams")
    def team_list(self, user: User) -> str:
        """Return their places in teams."""
        places = user.memberships.select_related("team").order_by("team__name")
        return ", ".join(f"{place.team.name} ({place.role})" for place in places) or "-"

    @display(description="good keys")
    def key_count(self, user: User) -> int:
        """Return how many keys they have."""
        return ApiKey.objects.usable().filter(owner=user).count()


# ------------------------------------------------------------------ teams


def _add_team(doing: Doing, _row: None) -> None:
    values = doing.values
    teams.create_team(
        values["name"], description=values["description"], owner=values["owner"], by=doing.by
    )


def _change_team(doing: Doing, team: Team) -> None:
    values = doing.values
    teams.change_team(
        team.name,
        description=values["description"],
        allowed_models=values["allowed_models"],
        by=doing.by,
    )


def _set_member(doing: Doing, team: Team) -> None:
    teams.set_member(team.name, doing.values["user"], TeamRole(doing.values["role"]), by=doing.by)


def _remove_member(doing: Doing, team: Team) -> None:
    teams.remove_member(team.name, doing.values["user"], by=doing.by)


def _delete_team(doing: Doing, team: Team) -> None:
    teams.delete_team(team.name, with_models=doing.values["with_models"], by=doing.by)


def _goes_with_team(team: Team) -> Sequence[str]:
    return [
        f"{team.memberships.count()} members leave it",
        f"{team.service_accounts.count()} service accounts",
        f"{team.language_models.count()} models",
    ]


_TEAM_ACTS: Final = (
    Act(
        name="new",
        label="New team",
        explains="People who share models, limits and a namespace.",
        do=_add_team,
        form=forms.NewTeamForm,
        is_of_none=True,
    ),
    Act(
        name="change",
        label="Change",
        explains="What is said of the team, and which shared models its members may use.",
        do=_change_team,
        form=forms.TeamForm,
        initial=lambda team: {
            "description": team.description,
            "allowed_models": team.allowed_models,
        },
        is_single=True,
    ),
    Act(
        name="member",
        label="Add or change a member",
        explains="Somebody is taken in, which administrators may do, or has another role.",
        do=_set_member,
        form=forms.MemberForm,
        initial=lambda _team: {"role": str(TeamRole.MEMBER)},
        is_single=True,
    ),
    Act(
        name="leave",
        label="Remove a member",
        explains="Their keys, invites and jobs for this team end with it, and the keys that they "
        "have made for its service accounts.",
        do=_remove_member,
        form=forms.FormerMemberForm,
        is_single=True,
        is_grave=True,
    ),
    Act(
        name="delete",
        label="Delete",
        explains="The team goes with its service accounts, keys and invites; its people stay.",
        do=_delete_team,
        form=forms.DeleteTeamForm,
        consequences=_goes_with_team,
        is_grave=True,
    ),
)


class TeamAdmin(Panel):
    """Teams and who is in them."""

    is_for_auditors = True
    acts = _TEAM_ACTS
    fields = ("name", "description", "member_list", "models", "allowed_models", "created_at")
    list_display = ("name", "description", "members", "models", "allowed_models")
    list_display_links = ("name",)
    search_fields = ("name", "description")
    ordering = ("name",)
    sortable_by = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all teams with how many members and models each has."""
        rows: QuerySet[Any] = super().get_queryset(request)
        counted: QuerySet[Any] = rows.annotate(
            member_count=_count(Membership.objects.all()),
            model_count=_count(LanguageModel.objects.all()),
        )
        return counted

    @display(description="members")
    def members(self, team: Any) -> int:
        """Return how many people are in it."""
        return int(team.member_count)

    @display(description="models")
    def models(self, team: Any) -> int:
        """Return how many models it has."""
        return int(team.model_count)

    @display(description="members")
    def member_list(self, team: Team) -> str:
        """Return who is in it."""
        places = team.memberships.select_related("user").order_by("user__username")
        shown = [f"{place.user.username} ({place.role})" for place in places[:_MOST_SHOWN]]
        return ", ".join(shown) or "-"


def _count(rows: QuerySet[Any]) -> Coalesce:
    counted = rows.filter(team=OuterRef("pk")).order_by().values("team")
    return Coalesce(Subquery(counted.annotate(count=Count("pk")).values("count")), 0)


# ------------------------------------------------------------------ invites


def _invite(doing: Doing, _row: None) -> Shown:
    made = invites.create_invite(
        team_name=doing.values["team"],
        role=TeamRole(doing.values["role"]),
        note=doing.values["note"],
        kept_s=doing.values["kept_s"],
        by=doing.by,
    )
    explains = "One person can use this link. It is shown this once: send it now."
    return Shown("An invite", explains, doing.absolute(made.path))


def _revoke_invite(doing: Doing, invite: Invite) -> None:
    invites.revoke_invite(invite.pk, by=doing.by)


class InviteAdmin(Panel):
    """Invites, without the links."""

    is_for_auditors = True
    acts = (
        Act(
            name="new",
            label="New invite",
            explains="A link by which one person makes an account, or joins a team.",
            do=_invite,
            form=forms.InviteForm,
            is_of_none=True,
        ),
        Act(
            name="revoke",
            label="Revoke",
            explains="Nobody can use these links any longer.",
            do=_revoke_invite,
            is_for=lambda invite: _state(invite) == "open",
            is_grave=True,
        ),
    )
    fields = (
        *("team", "role", "note", "state", "created_by", "created_at"),
        *("expires_at", "used_at", "used_by", "revoked_at"),
    )
    list_display = ("number", "to", "role", "note", "state", "created_by", "expires_at", "used_by")
    list_display_links = ("number",)
    search_fields = ("note", "team__name", "created_by__username", "used_by__username")
    ordering = ("-pk",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invite]:
        """Return all invites, without what their links are known by."""
        rows: QuerySet[Invite] = super().get_queryset(request)
        return rows.select_related("team", "created_by", "used_by").defer("token_hash")

    @display(description="invite")
    def number(self, invite: Invite) -> str:
        """Return its number."""
        return str(invite.pk)

    @display(description="to")
    def to(self, invite: Invite) -> str:
        """Return what it lets into."""
        return invite.team.name if invite.team else "the site"

    @display(description="state")
    def state(self, invite: Invite) -> str:
        """Return whether it can be used."""
        return _state(invite)


def _state(invite: Invite) -> str:
    if invite.used_at is not None:
        return "used"
    if invite.revoked_at is not None:
        return "revoked"
    return "open" if invite.expires_at > timezone.now() else "expired"


site.register(User, UserAdmin)
site.register(Team, TeamAdmin)
site.register(Invite, InviteAdmin)
