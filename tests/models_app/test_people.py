"""What is done to accounts: roles, in and out, sessions, passwords, the end."""

import io
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from models_app import people
from models_app.accounts import create_user
from models_app.client_keys import add_client_key
from models_app.errors import UserNotFound
from models_app.invites import create_invite
from models_app.jobs import JobKind, NewJob, add_or_share
from models_app.keys import KeyRules, create_key
from models_app.limit_rules import NewRule, change_amount, put_rule, remove_rule
from models_app.models import (
    ApiKey,
    ClientKey,
    FormerName,
    Invite,
    Job,
    JobState,
    LanguageModel,
    ModelGrant,
    Namespace,
    Team,
    User,
    Visibility,
)
from models_app.namespaces import NamespaceRules, set_rules
from models_app.permissions import CredentialKind, Principal, Scope, SiteRole, TeamRole
from models_app.principals import holder_of_key
from models_app.sign_up import sign_up
from models_app.site_names import take_name
from models_app.teams import create_service_account, create_team, delete_team, set_member
from ollamasite.errors import Conflict, Forbidden
from tests.conftest import PASSWORD, MakeModel
from tests.fakes.ollama_key import OllamaKey
from tests.models_app.people_cast import make_team, recorded, seen_as

Act = Callable[[], object]
pytestmark = pytest.mark.django_db


def again(user: User) -> User:
    return User.objects.get(pk=user.pk)


# ------------------------------------------------------------------ names


@pytest.mark.parametrize("name", ["vision", "VISION", "Vision"])
def test_user_cannot_be_called_as_a_team(name: str) -> None:
    create_team("Vision", by=None)
    with pytest.raises(ValidationError, match="already a team"):
        create_user(name, PASSWORD)


@pytest.mark.parametrize("name", ["alice", "ALICE", "library", "Library", "a/b", ""])
def test_team_cannot_be_called_as_a_user_or_what_is_no_namespace(alice: User, name: str) -> None:
    with pytest.raises(ValidationError):
        create_team(name, by=None)
    assert not Team.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_who_take_a_name_at_once_one_gets_it() -> None:
    outcomes: list[str] = []
    start = threading.Barrier(2)

    def take(make: Act) -> None:
        start.wait()
        try:
            make()
            outcomes.append("made")
        except ValidationError:
            outcomes.append("refused")
        finally:
            connection.close()

    makers: list[Act] = [
        lambda: create_user("Twin", PASSWORD),
        lambda: create_team("twin", by=None),
    ]
    threads = [threading.Thread(target=take, args=[make]) for make in makers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["made", "refused"]
    assert User.objects.count() + Team.objects.count() == 1


def delete_bob() -> None:
    people.delete_user("bob", by=None)


def delete_team_bob() -> None:
    people.delete_user("bob", by=None)
    FormerName.objects.all().delete()
    create_team("Bob", by=None)
    delete_team("bob", by=None)


def delete_team_with_service_bob() -> None:
    people.delete_user("bob", by=None)
    FormerName.objects.all().delete()
    create_team("vision", by=None)
    create_service_account("vision", "Bob", by=None)
    delete_team("vision", by=None)


@pytest.mark.parametrize("end", [delete_bob, delete_team_bob, delete_team_with_service_bob])
def test_name_of_who_is_gone_is_given_to_nobody(bob: User, end: Act) -> None:
    end()
    for of in ("user", "team"):
        with pytest.raises(ValidationError, match="that is gone"):
            take_name("BOB", of=of)


def test_name_of_who_is_gone_is_not_kept_to_be_read(bob: User) -> None:
    people.delete_user("bob", by=None)
    kept = FormerName.objects.values_list("name_hash", flat=True)
    assert [len(name_hash) for name_hash in kept] == [64]


def test_name_of_who_was_never_let_in_is_free_again(settings: Settings) -> None:
    settings.SIGN_UP = "approval"
    sign_up("carol", PASSWORD)
    people.delete_user("carol", by=None)
    take_name("carol", of="user")


# ------------------------------------------------------------------ roles


def test_admin_gives_and_takes_roles(admin: User, bob: User) -> None:
    people.set_role("BOB", is_admin=True, site_role=SiteRole.OPERATOR, by=seen_as(admin))
    assert (again(bob).is_superuser, again(bob).site_role) == (True, "operator")
    assert seen_as(bob).is_admin
    people.set_role("bob", is_admin=False, by=seen_as(admin))
    assert (again(bob).is_superuser, again(bob).is_staff) == (False, False)
    assert again(bob).site_role == SiteRole.OPERATOR
    assert recorded("user.role") == [("root", "bob"), ("root", "bob")]


def test_last_admin_stays_one(admin: User, bob: User) -> None:
    acts: list[Act] = [
        lambda: people.set_role("root", is_admin=False, by=None),
        lambda: people.deactivate("root", by=None),
        lambda: people.delete_user("root", by=seen_as(admin)),
    ]
    for act in acts:
        with pytest.raises(Conflict, match="last administrator"):
            act()
    people.set_role("bob", is_admin=True, by=None)
    people.deactivate("root", by=seen_as(bob))
    with pytest.raises(Conflict, match="last administrator"):
        people.set_role("bob", is_admin=False, by=None)


def everything_for_admins(by: Principal) -> list[Act]:
    return [
        lambda: people.add_user("carol", by=by),
        lambda: people.set_role("bob", is_admin=True, by=by),
        lambda: people.approve("bob", by=by),
        lambda: people.password_link("bob", by=by),
        lambda: people.deactivate("bob", by=by),
        lambda: people.activate("bob", by=by),
        lambda: people.end_sessions("bob", by=by),
        lambda: people.delete_user("bob", by=by),
        lambda: people.set_home_team("bob", None, by=by),
    ]


@pytest.mark.parametrize("role", list(SiteRole))
def test_others_cannot_touch_accounts(alice: User, bob: User, role: SiteRole) -> None:
    people.set_role("alice", site_role=role, by=None)
    before = User.objects.values().get(pk=bob.pk)
    for act in everything_for_admins(seen_as(alice)):
        with pytest.raises((Forbidden, UserNotFound)):
            act()
    assert User.objects.values().get(pk=bob.pk) == before
    assert recorded("user.deactivate") == []


def test_who_was_an_admin_a_moment_ago_administers_nothing(
    admin: User, alice: User, bob: User
) -> None:
    people.set_role("alice", is_admin=True, by=None)
    before = seen_as(alice)
    people.set_role("alice", is_admin=False, by=seen_as(admin))

    with pytest.raises(Forbidden):
        people.set_role("alice", is_admin=True, by=before)
    for act in (people.deactivate, people.end_sessions, people.delete_user):
        with pytest.raises(UserNotFound):
            act("bob", by=before)
    assert again(bob).is_active


def test_admins_key_for_models_administers_nothing(admin: User, bob: User) -> None:
    limited = Principal(
        user_id=admin.pk,
        username="root",
        is_admin=True,
        kind=CredentialKind.KEY,
        scopes=frozenset({Scope.READ, Scope.WRITE}),
    )
    for act in everything_for_admins(limited):
        with pytest.raises((Forbidden, UserNotFound)):
            act()


# ------------------------------------------------------------------ out and in again


def test_deactivated_users_keys_sessions_jobs_and_invites_end(
    admin: User, bob: User, browser_of_bob: Client
) -> None:
    people.set_role("bob", is_admin=True, by=None)
    create_key(bob, "laptop")
    add_client_key(bob, OllamaKey().line)
    create_invite(by=seen_as(bob))
    queued, running = new_job(bob, "a"), new_job(bob, "b")
    Job.objects.filter(job_id=running).update(state=JobState.RUNNING)

    people.deactivate("bob", by=seen_as(admin))

    assert not again(bob).is_active
    assert not ApiKey.objects.filter(revoked_at=None).exists()
    assert not ClientKey.objects.exists()
    assert not Invite.objects.filter(revoked_at=None).exists()
    assert Job.objects.get(job_id=queued).state == JobState.CANCELLED
    assert Job.objects.get(job_id=running).is_cancel_asked
    assert browser_of_bob.get("/home")["Location"].startswith("/signin")
    assert recorded("user.deactivate") == [("root", "bob")]


def test_who_is_let_in_again_has_no_old_key_and_no_old_session(
    admin: User, bob: User, browser_of_bob: Client
) -> None:
    create_key(bob, "laptop")
    people.deactivate("bob", by=seen_as(admin))
    people.activate("bob", by=seen_as(admin))

    assert again(bob).is_active
    assert not ApiKey.objects.usable().exists()
    assert browser_of_bob.get("/home").status_code == 302
    browser_of_bob.force_login(again(bob))
    assert browser_of_bob.get("/home").status_code == 200


def test_sessions_end_and_keys_stay(bob: User, browser_of_bob: Client) -> None:
    create_key(bob, "laptop")
    assert browser_of_bob.get("/home").status_code == 200
    people.end_sessions("bob", by=seen_as(bob))

    assert browser_of_bob.get("/home").status_code == 302
    assert ApiKey.objects.usable().exists()


def new_job(owner: User, share_key: str) -> str:
    new = NewJob(
        kind=JobKind.PULL,
        owner_id=owner.pk,
        model_name="x",
        share_key=share_key,
        arguments="{}",
        is_detached=True,
    )
    record = add_or_share(new, most_queued=10)
    assert record is not None
    return record.job_id


@pytest.fixture
def browser_of_bob(bob: User) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(bob)
    return client


# ------------------------------------------------------------------ the end


def test_user_with_models_is_deleted_only_with_them(
    admin: User, alice: User, bob: User, make_model: MakeModel
) -> None:
    make_model("bob/own", bob)
    make_model("alice/hers", alice)
    set_rules(NamespaceRules(name="bob", quota_bytes=1, immutable_tags="", kept_tags=None))
    with pytest.raises(Conflict, match="1 models"):
        people.delete_user("bob", by=seen_as(admin))
    people.delete_user("bob", with_models=True, by=seen_as(admin))

    assert not User.objects.filter(username="bob").exists()
    assert [model.namespace for model in LanguageModel.objects.all()] == ["alice"]
    assert not Namespace.objects.exists()
    assert recorded("user.delete") == [("root", "bob")]


def test_somebody_may_delete_their_own_account_and_nobody_elses(alice: User, bob: User) -> None:
    with pytest.raises(UserNotFound):
        people.delete_user("alice", by=seen_as(bob))
    people.delete_user("bob", by=seen_as(bob))
    assert list(User.objects.values_list("username", flat=True)) == ["alice"]


def test_unused_invites_of_a_deleted_user_let_nobody_in(admin: User, bob: User) -> None:
    people.set_role("bob", is_admin=True, by=None)
    create_invite(by=seen_as(bob))
    people.delete_user("bob", by=seen_as(admin))
    assert Invite.objects.get().revoked_at is not None


# ------------------------------------------------------------------ home team, passwords


def test_use_counts_to_the_first_team_until_another_is_chosen(bob: User) -> None:
    make_team("one", member=bob)
    make_team("two", viewer=bob)
    place = seen_as(bob).team
    assert place is not None
    assert place.name == "one"
    people.set_home_team("bob", "TWO", by=seen_as(bob))
    assert again(bob).home_team == Team.objects.get(name="two")
    people.set_home_team("bob", "", by=seen_as(bob))
    assert seen_as(bob).team is None


def test_nobody_is_at_home_in_a_team_of_others(bob: User) -> None:
    make_team("others")
    for name in ("others", "nothing"):
        with pytest.raises(Conflict, match="not in a team"):
            people.set_home_team("bob", name, by=seen_as(bob))


def test_new_account_without_password_lets_nobody_in_until_its_link_was_used(admin: User) -> None:
    people.add_user("carol", site_role=SiteRole.AUDITOR, by=seen_as(admin))
    carol = User.objects.get(username="carol")
    assert not carol.has_usable_password()
    assert carol.site_role == SiteRole.AUDITOR
    assert people.password_link("carol", by=seen_as(admin)).startswith("/password/")


def test_service_account_has_no_password_link_and_no_site_role(admin: User) -> None:
    make_team("vision")
    create_service_account("vision", "ci", by=None)
    with pytest.raises(Conflict):
        people.password_link("ci", by=seen_as(admin))
    with pytest.raises(Conflict):
        people.set_role("ci", is_admin=True, by=seen_as(admin))


# ------------------------------------------------------------------ keys with limits

A_DAY = timedelta(days=1)
LIMITED: dict[str, Callable[[], KeyRules]] = {
    "a scope": lambda: KeyRules(scopes=(Scope.ADMIN,)),
    "a network": lambda: KeyRules(networks=("10.0.0.0/8",)),
    "an end": lambda: KeyRules(expires_at=timezone.now() + A_DAY),
    "a limit": KeyRules,
}


def seen_by_key(user: User, limited_by: str) -> Principal:
    """Return the user as a key shows them that one thing limits; an empty text: nothing."""
    rules = LIMITED[limited_by]() if limited_by else KeyRules()
    key, _ = create_key(user, "key", rules)
    if limited_by == "a limit":
        put_rule(
            None, NewRule(subject="key", name=key.prefix, unit="requests", period="day", amount=9)
        )
    holder = holder_of_key(key.pk)
    assert holder is not None
    return holder.principal


A_LIMIT = NewRule(subject="site", unit="tokens", period="month", amount=10**9)
GIVING: dict[str, Callable[[Principal], object]] = {
    "an account": lambda by: people.add_user("carol", by=by),
    "an account and its link": lambda by: people.add_user_with_link(
        "carol", is_admin=True, site_role=SiteRole.NONE, by=by
    ),
    "a role": lambda by: people.set_role("bob", is_admin=True, by=by),
    "a password": lambda by: people.password_link("root", by=by),
    "an approval": lambda by: people.approve("waiting", by=by),
    "an account again": lambda by: people.activate("left", by=by),
    "an invite": lambda by: create_invite(by=by),
    "a team": lambda by: create_team("vision", owner="bob", by=by),
    "a place in a team": lambda by: set_member("lab", "bob", TeamRole.OWNER, by=by),
    "a service account": lambda by: create_service_account("lab", "ci", by=by),
    "a limit": lambda by: put_rule(by, A_LIMIT),
    "more of a limit": lambda by: change_amount(by, any_rule(), 5),
    "no limit": lambda by: remove_rule(by, any_rule()),
}


def any_rule() -> int:
    """Return the number of a limit that holds: one of the whole site, made here."""
    return put_rule(None, A_LIMIT).rule_id


@pytest.fixture
def waiting(settings: Settings) -> None:
    """One who waits to be let in, one who has been put out, and a team."""
    settings.SIGN_UP = "approval"
    sign_up("waiting", PASSWORD)
    create_user("left", PASSWORD)
    people.deactivate("left", by=None)
    create_team("lab", by=None)


@pytest.mark.parametrize("limited_by", LIMITED)
@pytest.mark.parametrize("giving", GIVING)
def test_key_with_limits_gives_nobody_what_has_none(
    admin: User, bob: User, waiting: None, limited_by: str, giving: str
) -> None:
    by = seen_by_key(admin, limited_by)
    with pytest.raises(Forbidden):
        GIVING[giving](by)


@pytest.mark.parametrize("giving", GIVING)
def test_key_without_limits_gives_what_its_owner_may(
    admin: User, bob: User, waiting: None, giving: str
) -> None:
    assert GIVING[giving](seen_by_key(admin, "")) != ""


# ------------------------------------------------------------------ last owners, demoted operators


def test_last_owner_of_a_team_is_not_deleted(alice: User, bob: User) -> None:
    make_team("vision", owner=alice, maintainer=bob)
    with pytest.raises(Conflict, match="last owner of vision"):
        people.delete_user("alice", by=seen_as(alice))
    set_member("vision", "bob", TeamRole.OWNER, by=None)
    people.delete_user("alice", by=seen_as(alice))


def mirror_of(owner: User, name: str, visibility: Visibility) -> LanguageModel:
    return LanguageModel.objects.create(
        host="hf.co",
        namespace="org",
        name=name,
        owner=owner,
        visibility=visibility,
        is_mirror=True,
    )


def test_what_a_demoted_operator_has_brought_for_all_is_theirs_no_longer(
    alice: User, bob: User
) -> None:
    people.set_role("alice", is_admin=True, site_role=SiteRole.OPERATOR, by=None)
    shared = mirror_of(alice, "shared", Visibility.EVERYONE)
    granted = mirror_of(alice, "granted", Visibility.PRIVATE)
    ModelGrant.objects.create(model=granted, user=bob, verb="use")
    own = mirror_of(alice, "own", Visibility.PRIVATE)

    def owned() -> set[str]:
        return set(LanguageModel.objects.filter(owner=alice).values_list("name", flat=True))

    create_user("root", PASSWORD, is_admin=True)
    people.set_role("alice", is_admin=False, by=None)
    assert owned() == {shared.name, granted.name, own.name}  # an operator still
    people.set_role("alice", site_role=SiteRole.AUDITOR, by=None)
    assert owned() == {own.name}


def test_changes_of_an_account_are_all_done_or_none(admin: User, bob: User) -> None:
    with pytest.raises(Conflict, match="not in a team"):
        people.change_user(
            "bob", is_admin=True, site_role=None, home_team="vision", by=seen_as(admin)
        )
    assert not again(bob).is_superuser
    assert recorded("user.role") == []


# ------------------------------------------------------------------ commands


def test_deactivate_user_from_the_command_line(admin: User, bob: User) -> None:
    call_command("deactivate_user", "bob", stdout=io.StringIO())
    assert not again(bob).is_active
    assert recorded("user.deactivate") == [("", "bob")]


@pytest.mark.parametrize(
    ("name", "sentence"), [("nobody", "'nobody' not found"), ("root", "last administrator")]
)
def test_deactivate_user_refuses_in_a_sentence(admin: User, name: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("deactivate_user", name)


def test_password_link_from_the_command_line(bob: User) -> None:
    out = io.StringIO()
    call_command("password_link", "bob", stdout=out)
    assert out.getvalue().startswith("/password/")
