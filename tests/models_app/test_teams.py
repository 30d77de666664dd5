"""Teams: who makes them, who is in them and as what, their service accounts."""

import io
from collections.abc import Callable

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from models_app import accounts, invites, keys, people, teams
from models_app.auth import Credentials, authenticate
from models_app.directory import find_team, find_user, list_members, list_teams
from models_app.errors import AccessEnded, MemberNotFound, TeamNotFound, UserNotFound
from models_app.keys import KeyRules, create_key
from models_app.models import ApiKey, LanguageModel, Membership, Team, User
from models_app.permissions import SiteRole, TeamRole
from ollamasite.errors import Conflict, Forbidden
from tests.models_app.people_cast import make_team, recorded, seen_as

Act = Callable[[], object]
pytestmark = pytest.mark.django_db


def roles_in(team: str) -> dict[str, str]:
    rows = Membership.objects.filter(team__name=team)
    return dict(rows.values_list("user__username", "role"))


def test_admin_makes_a_team_with_its_owner(admin: User, alice: User) -> None:
    teams.create_team("vision", description=" all\n pictures ", owner="Alice", by=seen_as(admin))

    found = find_team("VISION", by=seen_as(alice))
    assert (found.description, found.role, found.members) == ("all pictures", TeamRole.OWNER, 1)
    assert recorded("team") == [("root", "vision/alice"), ("root", "vision")]


def test_team_with_an_owner_who_does_not_exist_is_not_made(admin: User) -> None:
    with pytest.raises(UserNotFound):
        teams.create_team("vision", owner="nobody", by=seen_as(admin))
    assert not Team.objects.exists()


@pytest.mark.parametrize("role", ["viewer", "member", "maintainer"])
def test_below_owner_nobody_changes_a_team(alice: User, bob: User, role: str) -> None:
    make_team("vision", owner=alice, **{role: bob})
    by = seen_as(bob)
    acts: list[Act] = [
        lambda: teams.change_team("vision", description="x", by=by),
        lambda: teams.delete_team("vision", by=by),
        lambda: teams.set_member("vision", "bob", TeamRole.OWNER, by=by),
        lambda: teams.remove_member("vision", "alice", by=by),
        lambda: teams.create_service_account("vision", "ci", by=by),
    ]
    for act in acts:
        with pytest.raises(Forbidden):
            act()
    assert roles_in("vision") == {"alice": "owner", "bob": role}


def test_team_of_others_is_like_one_that_does_not_exist(alice: User, mallory: User) -> None:
    make_team("vision", owner=alice)
    by = seen_as(mallory)
    acts: list[Callable[[str], object]] = [
        lambda name: find_team(name, by=by),
        lambda name: list_members(name, limit=9, by=by),
        lambda name: teams.change_team(name, description="x", by=by),
        lambda name: teams.delete_team(name, by=by),
        lambda name: teams.set_member(name, "mallory", TeamRole.OWNER, by=by),
        lambda name: teams.remove_member(name, "mallory", by=by),
        lambda name: teams.create_service_account(name, "ci", by=by),
    ]
    for act in acts:
        told = []
        for name in ("vision", "nothing"):
            with pytest.raises(TeamNotFound) as error:
                act(name)
            told.append(error.value.message.replace(name, "it"))
        assert told[0] == told[1]
    assert list_teams(limit=9, by=by) == []


def test_only_admins_make_teams_and_say_what_a_team_may_use(alice: User, admin: User) -> None:
    make_team("vision", owner=alice)
    with pytest.raises(Forbidden):
        teams.create_team("other", by=seen_as(alice))
    with pytest.raises(Forbidden):
        teams.change_team("vision", allowed_models="", by=seen_as(alice))
    teams.change_team("vision", allowed_models="llama* qwen3:*", by=seen_as(admin))
    assert seen_as(alice).allowed_models == ("llama*", "qwen3:*")


@pytest.mark.parametrize(
    "changes",
    [{"allowed_models": "a/b/c/d/e"}, {"allowed_models": "x\0"}, {"description": "x" * 201}],
)
def test_what_a_team_cannot_have_is_refused(changes: dict[str, str]) -> None:
    make_team("vision")
    with pytest.raises(ValidationError):
        teams.change_team("vision", by=None, **changes)


def test_auditor_sees_every_team_and_changes_none(alice: User, bob: User) -> None:
    make_team("vision", owner=alice)
    people.set_role("bob", site_role=SiteRole.AUDITOR, by=None)
    by = seen_as(bob)

    assert [record.name for record in list_teams(limit=9, by=by)] == ["vision"]
    assert find_team("vision", by=by).role is None
    with pytest.raises(TeamNotFound):
        teams.set_member("vision", "bob", TeamRole.OWNER, by=by)


# ------------------------------------------------------------------ members


def test_owner_changes_members_and_puts_them_out(alice: User, bob: User) -> None:
    make_team("vision", owner=alice, viewer=bob)
    by = seen_as(alice)
    teams.set_member("vision", "BOB", TeamRole.MAINTAINER, by=by)
    assert roles_in("vision") == {"alice": "owner", "bob": "maintainer"}
    teams.remove_member("vision", "bob", by=by)
    assert roles_in("vision") == {"alice": "owner"}
    assert User.objects.get(pk=bob.pk).home_team is None


def test_owner_takes_nobody_in_unasked_and_learns_no_names(alice: User, bob: User) -> None:
    make_team("vision", owner=alice)
    make_team("speech", owner=bob)
    teams.create_service_account("speech", "cron", by=None)
    told = set()
    for name in ("bob", "BOB", "nobody", "cron", "speech", "b\0b"):
        with pytest.raises(MemberNotFound) as error:
            teams.set_member("vision", name, TeamRole.VIEWER, by=seen_as(alice))
        told.add(error.value.message.replace(f"'{name}'", "it"))

    assert len(told) == 1
    assert roles_in("vision") == {"alice": "owner"}


def test_admin_takes_anybody_in(alice: User, bob: User, admin: User) -> None:
    make_team("vision", owner=alice)
    teams.set_member("vision", "bob", TeamRole.MEMBER, by=seen_as(admin))
    assert roles_in("vision") == {"alice": "owner", "bob": "member"}


def test_owner_who_was_put_out_meanwhile_acts_no_longer(alice: User, bob: User) -> None:
    make_team("vision", owner=alice)
    teams.set_member("vision", "bob", TeamRole.OWNER, by=None)
    before = seen_as(bob)
    teams.set_member("vision", "bob", TeamRole.MEMBER, by=seen_as(alice))

    with pytest.raises(Forbidden):
        teams.set_member("vision", "bob", TeamRole.OWNER, by=before)
    people.deactivate("bob", by=None)
    with pytest.raises(AccessEnded):
        teams.change_team("vision", description="x", by=before)


def test_last_owner_stays(alice: User, bob: User, admin: User) -> None:
    make_team("vision", owner=alice, member=bob)
    acts: list[Act] = [
        lambda: teams.remove_member("vision", "alice", by=seen_as(alice)),
        lambda: teams.remove_member("vision", "alice", by=seen_as(admin)),
        lambda: teams.set_member("vision", "alice", TeamRole.MEMBER, by=seen_as(alice)),
    ]
    for act in acts:
        with pytest.raises(Conflict, match="no other owner"):
            act()
    teams.set_member("vision", "bob", TeamRole.OWNER, by=seen_as(alice))
    teams.remove_member("vision", "alice", by=seen_as(alice))
    assert roles_in("vision") == {"bob": "owner"}


def test_owner_who_was_deactivated_is_no_other_owner(alice: User, bob: User, admin: User) -> None:
    make_team("vision", owner=alice)
    teams.set_member("vision", "bob", TeamRole.OWNER, by=None)
    people.deactivate("bob", by=None)
    with pytest.raises(Conflict):
        teams.remove_member("vision", "alice", by=None)


def test_everybody_may_leave_and_is_at_home_in_another_team_then(alice: User, bob: User) -> None:
    make_team("one", owner=alice, viewer=bob)
    make_team("two", owner=alice, member=bob)
    create_key(bob, "for one", KeyRules(team="one"))
    create_key(bob, "for all")
    teams.remove_member("one", "Bob", by=seen_as(bob))

    home = User.objects.get(pk=bob.pk).home_team
    assert home is not None
    assert home.name == "two"
    assert [key.name for key in ApiKey.objects.usable().filter(owner=bob)] == ["for all"]


def test_somebody_who_is_not_in_the_team_cannot_be_put_out(alice: User, bob: User) -> None:
    make_team("vision", owner=alice)
    with pytest.raises(UserNotFound):
        teams.remove_member("vision", "bob", by=seen_as(alice))


def test_inactive_user_joins_nothing(alice: User, bob: User) -> None:
    make_team("vision", owner=alice)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    with pytest.raises(UserNotFound):
        teams.set_member("vision", "bob", TeamRole.MEMBER, by=None)


# ------------------------------------------------------------------ service accounts


def test_number_of_service_accounts_is_limited(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_MOST_SERVICE_ACCOUNTS", 1)
    make_team("vision", owner=alice)
    make_team("speech", owner=alice)
    teams.create_service_account("vision", "ci", by=seen_as(alice))
    with pytest.raises(Conflict, match="at most 1 service accounts"):
        teams.create_service_account("vision", "cron", by=seen_as(alice))
    teams.create_service_account("speech", "cron", by=seen_as(alice))
    people.deactivate("ci", by=seen_as(alice))
    teams.create_service_account("vision", "nightly", by=seen_as(alice))
    with pytest.raises(Conflict, match="at most 1 service accounts"):
        people.activate("ci", by=seen_as(alice))


@pytest.mark.parametrize("home", [None, "speech"])
def test_service_account_counts_to_its_team(alice: User, home: str | None) -> None:
    make_team("vision", owner=alice)
    make_team("speech", owner=alice)
    ci = teams.create_service_account("vision", "ci", by=None)
    with pytest.raises(Conflict, match="counts to its team"):
        people.set_home_team("ci", home, by=seen_as(ci))
    people.set_home_team("ci", "Vision", by=seen_as(ci))
    assert seen_as(ci).team == seen_as(ci).teams[0]


def test_owner_makes_a_service_account_and_deactivates_it(alice: User, mallory: User) -> None:
    make_team("vision", owner=alice)
    ci = teams.create_service_account("vision", "ci", TeamRole.MAINTAINER, by=seen_as(alice))
    create_key(ci, "nightly")

    [listed] = list_members("vision", only_services=True, limit=9, by=seen_as(alice))
    assert (listed.username, listed.role, listed.keys) == ("ci", "maintainer", 1)
    assert not ci.has_usable_password()
    with pytest.raises(UserNotFound):
        people.deactivate("ci", by=seen_as(mallory))
    people.deactivate("ci", by=seen_as(alice))
    assert not ApiKey.objects.usable().exists()
    people.activate("ci", by=seen_as(alice))
    assert User.objects.get(pk=ci.pk).is_active


def test_team_owner_deactivates_nobody_else(alice: User, bob: User) -> None:
    make_team("vision", owner=alice, member=bob)
    with pytest.raises(UserNotFound):
        people.deactivate("bob", by=seen_as(alice))


@pytest.mark.parametrize("role", [TeamRole.OWNER, TeamRole.VIEWER])
def test_service_account_is_member_or_maintainer(alice: User, role: TeamRole) -> None:
    make_team("vision", owner=alice)
    with pytest.raises(Conflict):
        teams.create_service_account("vision", "ci", role, by=None)
    teams.create_service_account("vision", "ci", by=None)
    with pytest.raises(Conflict):
        teams.set_member("vision", "ci", role, by=None)


def test_service_account_belongs_to_one_team_and_does_not_leave_it(alice: User) -> None:
    make_team("vision", owner=alice)
    make_team("speech", owner=alice)
    teams.create_service_account("vision", "ci", by=None)
    with pytest.raises(UserNotFound):
        teams.set_member("speech", "ci", TeamRole.MEMBER, by=None)
    with pytest.raises(Conflict, match="deactivate"):
        teams.remove_member("vision", "ci", by=None)


# ------------------------------------------------------------------ lists of shared models


def lists(**by_team: str) -> None:
    for name, patterns in by_team.items():
        make_team(name)
        teams.change_team(name, allowed_models=patterns, by=None)


def test_lists_of_ones_teams_hold_together(alice: User) -> None:
    lists(one="llama*", two="qwen3:* llama*")
    for name in ("one", "two"):
        teams.set_member(name, "alice", TeamRole.MEMBER, by=None)
    assert seen_as(alice).allowed_models == ("llama*", "qwen3:*")


def test_team_without_a_list_is_no_way_around_anothers(alice: User) -> None:
    lists(one="llama*", open="")
    _, secret = create_key(alice, "laptop")
    for name in ("one", "open"):
        teams.set_member(name, "alice", TeamRole.MEMBER, by=None)

    for seen in (seen_as(alice), authenticate(Credentials(key=secret))):
        assert seen.allowed_models == ("llama*",)


@pytest.mark.parametrize("team", ["", "open"])
def test_who_has_no_list_has_the_sites(alice: User, settings: Settings, team: str) -> None:
    settings.ALLOWED_MODELS = ["small*", "qwen3"]
    lists(one="llama*", open="")
    _, secret = create_key(alice, "laptop")
    teams.set_member("one", "alice", TeamRole.MEMBER, by=None)
    if team:
        teams.set_member(team, "alice", TeamRole.MEMBER, by=None)
    assert seen_as(alice).allowed_models == ("llama*",)

    teams.remove_member("one", "alice", by=seen_as(alice))

    for seen in (seen_as(alice), authenticate(Credentials(key=secret))):
        assert seen.allowed_models == ("qwen3", "small*")


def test_list_of_the_site_that_cannot_be_read_stops_the_start(settings: Settings) -> None:
    settings.ALLOWED_MODELS = ["a/b/c/d/e"]
    with pytest.raises(ImproperlyConfigured, match="OLLAMASITE_ALLOWED_MODELS: 'a/b/c/d/e'"):
        apps.get_app_config("models_app").ready()


# ------------------------------------------------------------------ names that none has


def test_name_with_a_nul_in_it_is_nobodys(alice: User) -> None:
    make_team("vision", owner=alice)
    by = seen_as(alice)
    asked: list[tuple[type[Exception], Act]] = [
        (TeamNotFound, lambda: find_team("\0", by=by)),
        (TeamNotFound, lambda: list_members("\0", limit=9, by=by)),
        (TeamNotFound, lambda: teams.delete_team("\0", by=by)),
        (TeamNotFound, lambda: invites.create_invite(team_name="\0", by=by)),
        (UserNotFound, lambda: teams.remove_member("vision", "\0", by=by)),
        (UserNotFound, lambda: teams.set_member("vision", "\0", TeamRole.OWNER, by=None)),
        (UserNotFound, lambda: find_user("\0", by=by)),
        (UserNotFound, lambda: people.deactivate("\0", by=by)),
        (UserNotFound, lambda: teams.create_team("other", owner="\0", by=None)),
        (Conflict, lambda: people.set_home_team("alice", "\0", by=by)),
    ]
    for error, act in asked:
        with pytest.raises(error):
            act()
    assert keys.list_keys(by, owner_name="\0") == []


# ------------------------------------------------------------------ the end of a team


def test_team_with_models_is_deleted_only_with_them(alice: User) -> None:
    make_team("vision", owner=alice)
    ci = teams.create_service_account("vision", "ci", by=None)
    team = Team.objects.get()
    LanguageModel.objects.create(namespace="vision", name="a", team=team)
    LanguageModel.objects.create(namespace="CI", name="b", owner=ci)
    LanguageModel.objects.create(namespace="alice", name="c", owner=alice)
    with pytest.raises(Conflict, match="2 models"):
        teams.delete_team("vision", by=seen_as(alice))
    teams.delete_team("vision", with_models=True, by=seen_as(alice))

    assert list(LanguageModel.objects.values_list("name", flat=True)) == ["c"]
    assert list(User.objects.values_list("username", flat=True)) == ["alice"]
    assert recorded("team.delete") == [("alice", "vision")]


def test_people_of_a_deleted_team_are_at_home_in_another(alice: User, bob: User) -> None:
    make_team("one", owner=alice, member=bob)
    make_team("two", owner=alice)
    teams.delete_team("one", by=None)

    homes = dict(User.objects.values_list("username", "home_team__name"))
    assert homes == {"alice": "two", "bob": None}


# ------------------------------------------------------------------ the command


def command(*words: str) -> str:
    out = io.StringIO()
    call_command("team", *words, stdout=out)
    return out.getvalue()


def test_teams_from_the_command_line(alice: User, bob: User) -> None:
    command("create", "vision", "--owner", "alice")
    command("add", "vision", "bob", "--role", "maintainer")
    assert roles_in("vision") == {"alice": "owner", "bob": "maintainer"}
    assert "bob" in command("list", "vision")
    assert "vision" in command("list")
    command("remove", "vision", "bob")
    assert roles_in("vision") == {"alice": "owner"}
    command("delete", "vision")
    assert not Team.objects.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["create", "library"], "cannot be a team name"),
        (["add", "nothing", "alice"], "team 'nothing' not found"),
        (["remove", "vision", "nobody"], "user 'nobody' not found"),
        (["add", "vision", "alice", "--role", "king"], "invalid choice"),
    ],
)
def test_command_refuses_in_a_sentence(alice: User, words: list[str], sentence: str) -> None:
    make_team("vision")
    with pytest.raises(CommandError, match=sentence):
        command(*words)
