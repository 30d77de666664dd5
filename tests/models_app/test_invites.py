"""Invites and signing up: who may make one, who gets in by it, and only once."""

import io
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings
from time_machine import TimeMachineFixture

from models_app import invites, people, teams
from models_app.errors import InviteNotFound, TeamNotFound, TooManyAttempts
from models_app.invites import InviteRecord
from models_app.models import AuditEntry, Invite, Membership, User
from models_app.permissions import SiteRole, TeamRole
from models_app.sign_up import sign_up
from ollamasite.errors import Conflict, Forbidden, NotFound
from tests.conftest import PASSWORD
from tests.models_app.people_cast import make_team, recorded, seen_as

pytestmark = pytest.mark.django_db


def secret_of(made: invites.NewInvite) -> str:
    return made.path.rpartition("/")[2]


def opened(made: invites.NewInvite) -> InviteRecord | None:
    return invites.find_by_secret(secret_of(made))


def roles_of(user: User) -> dict[str, str]:
    return dict(Membership.objects.filter(user=user).values_list("team__name", "role"))


# ------------------------------------------------------------------ making one


def test_secret_is_nowhere_in_the_database(admin: User) -> None:
    made = invites.create_invite(note="for Carol", by=seen_as(admin))
    secret = secret_of(made)

    assert len(secret) >= 40
    assert secret not in str(list(Invite.objects.values()))
    assert secret not in str(list(AuditEntry.objects.values()))
    assert secret not in repr(made.record)
    assert opened(made) == made.record


@pytest.mark.parametrize("role", ["viewer", "member", "maintainer"])
def test_below_owner_nobody_invites_into_a_team(alice: User, bob: User, role: str) -> None:
    make_team("vision", owner=alice, **{role: bob})
    with pytest.raises(Forbidden):
        invites.create_invite(team_name="vision", by=seen_as(bob))


def test_owner_invites_into_the_own_team_alone(alice: User, mallory: User) -> None:
    make_team("vision", owner=alice)
    make_team("speech", owner=mallory)
    made = invites.create_invite(team_name="VISION", role=TeamRole.OWNER, by=seen_as(alice))

    assert (made.record.team, made.record.role) == ("vision", TeamRole.OWNER)
    with pytest.raises(TeamNotFound):
        invites.create_invite(team_name="speech", by=seen_as(alice))
    with pytest.raises(Forbidden):
        invites.create_invite(by=seen_as(alice))


@pytest.mark.parametrize("wrong", [{"note": "x" * 201}, {"kept_s": 0.0}, {"kept_s": -1.0}])
def test_bad_wishes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        invites.create_invite(by=None, **wrong)


def test_endless_invite_ends_some_day(settings: Settings) -> None:
    settings.INVITES_KEPT_S = float("inf")
    made = invites.create_invite(by=None)
    assert made.record.expires_at > timezone.now() + timedelta(days=365)


# ------------------------------------------------------------------ using one


def test_new_account_by_invite_is_in_the_team(alice: User) -> None:
    make_team("vision", owner=alice)
    made = invites.create_invite(team_name="vision", role=TeamRole.MAINTAINER, by=seen_as(alice))
    carol = invites.accept_as_new(made.record.invite_id, "carol", PASSWORD)

    assert carol.check_password(PASSWORD)
    assert roles_of(carol) == {"vision": "maintainer"}
    place = seen_as(carol).team
    assert place is not None
    assert place.name == "vision"
    assert recorded("invite.accept")[0][0] == "carol"
    assert opened(made) is None


def test_whoever_has_an_account_joins_with_it(alice: User, bob: User) -> None:
    make_team("vision", owner=alice)
    made = invites.create_invite(team_name="vision", by=seen_as(alice))

    assert invites.accept(made.record.invite_id, by=seen_as(bob)) == "vision"
    assert roles_of(bob) == {"vision": "member"}


def test_higher_role_is_kept_and_the_invite_too(alice: User, bob: User) -> None:
    make_team("vision", owner=alice, maintainer=bob)
    made = invites.create_invite(team_name="vision", by=seen_as(alice))
    with pytest.raises(Conflict, match="maintainer of vision already"):
        invites.accept(made.record.invite_id, by=seen_as(bob))
    assert opened(made) is not None


def test_lower_role_is_raised(alice: User, bob: User) -> None:
    make_team("vision", owner=alice, viewer=bob)
    made = invites.create_invite(team_name="vision", by=seen_as(alice))
    invites.accept(made.record.invite_id, by=seen_as(bob))
    assert roles_of(bob) == {"vision": "member"}


def test_invite_for_an_account_is_nothing_to_join(admin: User, bob: User) -> None:
    made = invites.create_invite(by=seen_as(admin))
    with pytest.raises(Conflict, match="you have one already"):
        invites.accept(made.record.invite_id, by=seen_as(bob))


def use_up(made: invites.NewInvite, alice: User) -> None:
    invites.accept_as_new(made.record.invite_id, "carol", PASSWORD)


def expire(made: invites.NewInvite, alice: User) -> None:
    Invite.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def revoke(made: invites.NewInvite, alice: User) -> None:
    invites.revoke_invite(made.record.invite_id, by=seen_as(alice))


def demote_maker(made: invites.NewInvite, alice: User) -> None:
    Membership.objects.filter(user=alice).update(role=TeamRole.MAINTAINER)


def deactivate_maker(made: invites.NewInvite, alice: User) -> None:
    people.deactivate("alice", by=None)


def delete_maker(made: invites.NewInvite, alice: User) -> None:
    Membership.objects.filter(user=alice).update(role=TeamRole.MAINTAINER)
    people.delete_user("alice", by=None)


def delete_team(made: invites.NewInvite, alice: User) -> None:
    teams.delete_team("vision", by=None)


@pytest.mark.parametrize(
    "happen",
    [use_up, expire, revoke, demote_maker, deactivate_maker, delete_maker, delete_team],
)
def test_invite_that_is_over_lets_nobody_in(
    alice: User, bob: User, happen: Callable[[invites.NewInvite, User], None]
) -> None:
    make_team("vision", owner=alice)
    made = invites.create_invite(team_name="vision", by=seen_as(alice))
    happen(made, alice)
    known = User.objects.count()

    assert opened(made) is None
    assert invites.find_good(made.record.invite_id) is None
    with pytest.raises(InviteNotFound):
        invites.accept(made.record.invite_id, by=seen_as(bob))
    with pytest.raises(InviteNotFound):
        invites.accept_as_new(made.record.invite_id, "dave", PASSWORD)
    assert User.objects.count() == known
    assert roles_of(bob) == {}


@pytest.mark.parametrize("secret", ["", "x", "x" * 5000, "\0", "' OR 1=1 --", "é"])
def test_wrong_secret_opens_nothing(secret: str) -> None:
    invites.create_invite(by=None)
    assert invites.find_by_secret(secret) is None


def test_who_guesses_secrets_has_to_wait(
    settings: Settings, time_machine: TimeMachineFixture
) -> None:
    # No minute ends between two guesses.
    time_machine.move_to("2026-01-01T12:00:10Z", tick=False)
    settings.WRONG_KEYS_PER_MINUTE = 3
    made = invites.create_invite(by=None)
    with pytest.raises(TooManyAttempts):
        for number in range(9):
            invites.find_by_secret(f"guess {number}")
    assert opened(made) is not None


@pytest.mark.django_db(transaction=True)
def test_of_two_who_use_an_invite_at_once_one_gets_in() -> None:
    made = invites.create_invite(by=None)
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def use(name: str) -> None:
        start.wait()
        try:
            invites.accept_as_new(made.record.invite_id, name, PASSWORD)
            outcomes.append("in")
        except InviteNotFound:
            outcomes.append("out")
        finally:
            connection.close()

    threads = [threading.Thread(target=use, args=[name]) for name in ("carol", "dave")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["in", "out"]
    assert User.objects.count() == 1
    assert Invite.objects.get().used_by == User.objects.get()


def test_name_that_is_taken_does_not_use_the_invite_up(alice: User) -> None:
    make_team("vision")
    made = invites.create_invite(by=None)
    told = set()
    for name in ("ALICE", "vision"):
        with pytest.raises(ValidationError) as error:
            invites.accept_as_new(made.record.invite_id, name, PASSWORD)
        told.add(str(error.value.message_dict))

    assert len(told) == 1
    assert opened(made) is not None


def test_everything_that_is_wrong_is_told_at_once() -> None:
    made = invites.create_invite(by=None)
    with pytest.raises(ValidationError) as error:
        invites.accept_as_new(made.record.invite_id, "a/b", "short")
    assert set(error.value.message_dict) == {"username", "password"}


# ------------------------------------------------------------------ lists


def test_lists_have_what_one_may_revoke(admin: User, alice: User, mallory: User) -> None:
    make_team("vision", owner=alice)
    make_team("speech", owner=mallory)
    invites.create_invite(by=seen_as(admin))
    mine = invites.create_invite(team_name="vision", by=seen_as(alice)).record
    theirs = invites.create_invite(team_name="speech", by=seen_as(mallory)).record

    def listed(user: User) -> list[int]:
        return [found.invite_id for found in invites.list_invites(limit=9, by=seen_as(user))]

    assert listed(alice) == [mine.invite_id]
    assert listed(mallory) == [theirs.invite_id]
    assert len(listed(admin)) == 3
    with pytest.raises(InviteNotFound):
        invites.revoke_invite(theirs.invite_id, by=seen_as(alice))
    with pytest.raises(TeamNotFound):
        invites.list_invites(team_name="speech", limit=9, by=seen_as(alice))


def test_auditor_looks_at_invites_and_revokes_none(alice: User, bob: User) -> None:
    make_team("vision", owner=alice)
    people.set_role("bob", site_role=SiteRole.AUDITOR, by=None)
    for name in ("", "vision"):
        made = invites.create_invite(team_name=name, by=None)
        with pytest.raises((Forbidden, TeamNotFound)):
            invites.revoke_invite(made.record.invite_id, by=seen_as(bob))
    assert len(invites.list_invites(limit=9, by=seen_as(bob))) == 2


def test_invite_is_revoked_once(admin: User) -> None:
    made = invites.create_invite(by=None)
    invites.revoke_invite(made.record.invite_id, by=seen_as(admin))
    with pytest.raises(InviteNotFound):
        invites.revoke_invite(made.record.invite_id, by=seen_as(admin))
    assert [record.state for record in invites.list_invites(limit=9, by=None)] == ["revoked"]
    assert invites.list_invites(only_open=True, limit=9, by=None) == []


# ------------------------------------------------------------------ signing up


def test_nobody_signs_up_where_that_is_off() -> None:
    with pytest.raises(NotFound):
        sign_up("carol", PASSWORD)


def test_open_site_lets_anybody_in(settings: Settings) -> None:
    settings.SIGN_UP = "open"
    carol = sign_up("carol", PASSWORD)
    assert (carol.is_active, carol.is_superuser, carol.site_role) == (True, False, "")


def test_who_has_to_wait_gets_in_when_approved(settings: Settings, admin: User) -> None:
    settings.SIGN_UP = "approval"
    sign_up("carol", PASSWORD)
    carol = User.objects.get(username="carol")
    assert (carol.is_active, carol.awaits_approval) == (False, True)
    with pytest.raises(Conflict, match="waits for approval"):
        people.activate("carol", by=seen_as(admin))
    people.approve("carol", by=seen_as(admin))
    carol.refresh_from_db()
    assert (carol.is_active, carol.awaits_approval) == (True, False)
    with pytest.raises(Conflict, match="does not wait"):
        people.approve("carol", by=seen_as(admin))


def test_who_is_refused_is_gone(settings: Settings, admin: User) -> None:
    settings.SIGN_UP = "approval"
    sign_up("carol", PASSWORD)
    people.delete_user("carol", by=seen_as(admin))
    assert not User.objects.filter(username="carol").exists()
    assert recorded("user.refuse") == [("root", "carol")]


def test_line_of_those_who_wait_is_bounded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SIGN_UP = "approval"
    monkeypatch.setattr("models_app.sign_up._MOST_WAITING", 1)
    sign_up("carol", PASSWORD)
    with pytest.raises(Conflict, match="Too many"):
        sign_up("dave", PASSWORD)


# ------------------------------------------------------------------ the command


def test_invite_from_the_command_line() -> None:
    make_team("vision")
    out = io.StringIO()
    call_command("invite", "--team", "vision", "--role", "owner", "--expires", "1h", stdout=out)
    found = invites.find_by_secret(out.getvalue().strip().rpartition("/")[2])

    assert found is not None
    assert (found.team, found.role) == ("vision", TeamRole.OWNER)
    assert found.expires_at < timezone.now() + timedelta(hours=1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--team", "nothing"], "team 'nothing' not found"),
        (["--expires", "soon"], "write a duration"),
        (["--note", "x" * 201], "200 characters"),
    ],
)
def test_command_refuses_in_a_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("invite", *words)
