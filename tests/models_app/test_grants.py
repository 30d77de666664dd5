"""Who may change what others may do with a model, and what is written down of it."""

from dataclasses import replace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from models_app import grants
from models_app.errors import GranteeNotFound, InvalidAccess, ModelNotFound, NotYourModel
from models_app.grants import AccessChange, Granted, ModelAccess, change_access, read_access
from models_app.models import (
    AuditEntry,
    LanguageModel,
    Membership,
    ModelGrant,
    Team,
    User,
    Visibility,
)
from models_app.names import ModelName
from models_app.permissions import CredentialKind, Principal, Scope, SiteRole, Verb
from models_app.principals import principal_of_user
from models_app.services import NewManifest, write_tag
from ollamasite.errors import Forbidden, ServiceError

pytestmark = pytest.mark.django_db
TINY = ModelName.parse("alice/tiny")
BOB_USES = Granted("bob", Verb.USE)


def seen(user: User) -> Principal:
    return principal_of_user(user, CredentialKind.SESSION)


def write(name: str, user: User | None) -> None:
    new = NewManifest(digest="a" * 64, body=b"{}", layers=[])
    write_tag(ModelName.parse(name), new, owner_id=user.pk if user else None)


@pytest.fixture(autouse=True)
def _models(alice: User, bob: User, mallory: User, admin: User) -> None:
    write("alice/tiny", alice)
    write("library/common", admin)


@pytest.fixture
def team(alice: User) -> Team:
    made = Team.objects.create(name="vision")
    Membership.objects.create(team=made, user=alice, role="maintainer")
    return made


def change(user: User, name: ModelName = TINY, **wanted: object) -> ModelAccess:
    return change_access(name, AccessChange(**wanted), by=seen(user))  # type: ignore[arg-type]


def acts() -> list[tuple[str, str, str, dict[str, object]]]:
    rows = AuditEntry.objects.filter(action__startswith="model.").order_by("sequence")
    return [(row.action, row.actor_name, row.subject, row.details) for row in rows]


def test_owner_shows_the_model_and_it_is_written_down(alice: User) -> None:
    access = change(alice, visibility=Visibility.EVERYONE)

    assert access.visibility is Visibility.EVERYONE
    assert LanguageModel.objects.get(name="tiny").visibility == "everyone"
    details = {"before": "private", "after": "everyone"}
    assert acts() == [("model.visibility", "alice", "alice/tiny", details)]


def test_right_is_given_told_and_taken_back(alice: User) -> None:
    given = change(alice, add=(BOB_USES,))
    told = read_access(TINY, by=seen(alice))
    taken = change(alice, remove=(Granted("BOB", Verb.USE),))

    assert (given, told.using_users) == (told, ["alice", "bob"])
    assert told.grants == (BOB_USES,)
    assert taken.grants == ()
    assert [(action, details["verb"]) for action, _, _, details in acts()] == [
        ("model.grant", "use"),
        ("model.revoke", "use"),
    ]


def test_team_is_given_a_right(alice: User, team: Team) -> None:
    access = change(alice, add=(Granted("Vision", Verb.USE), Granted("bob", Verb.PUSH)))

    assert access.using_teams == ["vision"]
    assert access.using_users == ["alice"]


def test_second_time_changes_nothing_and_is_not_written_down(alice: User) -> None:
    for _ in range(2):
        change(alice, add=(BOB_USES,), visibility=Visibility.EVERYONE)
    change(alice, remove=(Granted("bob", Verb.PULL),))

    assert ModelGrant.objects.count() == 1
    assert len(acts()) == 2


@pytest.mark.parametrize("who", ["bob", "mallory", "root"])
def test_hidden_model_answers_like_one_that_is_not_there(who: str) -> None:
    user = User.objects.get(username=who)
    answers: list[tuple[type[ServiceError], str]] = []
    for name in ("alice/tiny", "alice/nope"):
        with pytest.raises(ServiceError) as refusal:
            read_access(ModelName.parse(name), by=seen(user))
        error = refusal.value
        answers.append((type(error), error.message.replace(name, "X")))

    assert answers[0] == answers[1]
    assert answers[0][0] is ModelNotFound


@pytest.mark.parametrize("verb", [Verb.USE, Verb.PULL, Verb.PUSH])
def test_whoever_may_less_than_manage_gives_no_rights(alice: User, bob: User, verb: Verb) -> None:
    change(alice, add=(Granted("bob", verb),))
    with pytest.raises(NotYourModel):
        change(bob, add=(Granted("mallory", Verb.USE),))
    with pytest.raises(NotYourModel):
        read_access(TINY, by=seen(bob))


def test_whoever_may_manage_gives_rights(alice: User, bob: User) -> None:
    change(alice, add=(Granted("bob", Verb.MANAGE),))

    assert change(bob, add=(Granted("mallory", Verb.USE),)).using_users == [
        "alice",
        "bob",
        "mallory",
    ]


def test_all_is_done_or_nothing(alice: User) -> None:
    with pytest.raises(GranteeNotFound):
        change(alice, visibility=Visibility.EVERYONE, add=(BOB_USES, Granted("nobody", Verb.USE)))

    assert LanguageModel.objects.get(name="tiny").visibility == "private"
    assert (ModelGrant.objects.count(), acts()) == (0, [])


def test_team_of_others_answers_like_none(alice: User, admin: User, bob: User) -> None:
    Team.objects.create(name="secret")
    User.objects.filter(pk=bob.pk).update(is_active=False)
    refusals = []
    for name in ("secret", "nobody", "bob"):
        with pytest.raises(GranteeNotFound) as refusal:
            change(alice, add=(Granted(name, Verb.USE),))
        refusals.append(refusal.value.message.replace(name, "X"))

    assert len(set(refusals)) == 1
    common = ModelName.parse("common")
    assert change(admin, common, add=(Granted("secret", Verb.USE),)).using_teams == ["secret"]


def test_only_some_verbs_are_granted(alice: User) -> None:
    with pytest.raises(InvalidAccess):
        change(alice, add=(Granted("bob", Verb.READ),))


def test_only_a_teams_model_is_shown_to_a_team(alice: User, team: Team) -> None:
    with pytest.raises(InvalidAccess):
        change(alice, visibility=Visibility.TEAM)
    write("vision/tiny", alice)
    named = ModelName.parse("vision/tiny")
    hidden = change(alice, named, visibility=Visibility.PRIVATE)
    shown = change(alice, named, visibility=Visibility.TEAM)

    assert (hidden.team, hidden.owner, hidden.using_teams) == ("vision", "", [])
    assert shown.using_teams == ["vision"]


def test_others_are_shown_no_model_under_another_registrys_name(alice: User, admin: User) -> None:
    mirror = ModelName.parse("hub.lab/maker/tiny")
    write("hub.lab/maker/tiny", alice)
    for wanted in ({"visibility": Visibility.EVERYONE}, {"add": (BOB_USES,)}):
        with pytest.raises(InvalidAccess):
            change(alice, mirror, **wanted)
    write("hub.lab/maker/tiny", admin)

    assert change(admin, mirror, add=(BOB_USES,)).grants == (BOB_USES,)


def test_library_is_changed_by_those_who_look_after_it(bob: User, alice: User) -> None:
    common = ModelName.parse("common")
    with pytest.raises(NotYourModel):
        change(bob, common, visibility=Visibility.PRIVATE)
    User.objects.filter(pk=bob.pk).update(site_role=SiteRole.OPERATOR)
    bob.refresh_from_db()
    change(bob, common, visibility=Visibility.PRIVATE)

    with pytest.raises(ModelNotFound):
        read_access(common, by=seen(alice))
    assert read_access(common, by=seen(bob)).visibility is Visibility.PRIVATE


def test_key_for_other_models_changes_nothing_here(alice: User) -> None:
    keyed = replace(seen(alice), model_patterns=("other*",))
    with pytest.raises(ModelNotFound):
        change_access(TINY, AccessChange(visibility=Visibility.EVERYONE), by=keyed)


@pytest.mark.parametrize(
    "limits", [{"scopes": frozenset({Scope.WRITE})}, {"model_patterns": ("alice/*",)}]
)
def test_key_with_limits_gives_nothing_away(alice: User, limits: dict[str, object]) -> None:
    keyed = replace(seen(alice), **limits)  # type: ignore[arg-type]
    for wanted in ({"visibility": Visibility.EVERYONE}, {"add": (BOB_USES,)}):
        with pytest.raises(Forbidden):
            change_access(TINY, AccessChange(**wanted), by=keyed)

    assert read_access(TINY, by=keyed).visibility is Visibility.PRIVATE


def test_long_list_is_refused_before_anything_is_asked(
    alice: User, django_assert_max_num_queries: Any
) -> None:
    long = (BOB_USES,) * 501
    by = seen(alice)
    for change_of in (AccessChange(add=long), AccessChange(remove=long)):
        # Those of the transaction.
        with django_assert_max_num_queries(3), pytest.raises(InvalidAccess):
            change_access(TINY, change_of, by=by)


def test_as_many_questions_are_asked_for_many_rights_as_for_one(alice: User) -> None:
    with CaptureQueriesContext(connection) as for_one:
        change(alice, add=(BOB_USES,), remove=(Granted("root", Verb.USE),))
    with CaptureQueriesContext(connection) as for_many:
        change(alice, add=(BOB_USES,) * 400, remove=(Granted("root", Verb.USE),) * 100)

    assert len(for_many) <= len(for_one)
    assert ModelGrant.objects.count() == 1


def test_model_has_no_more_rights_than_fit(
    alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "_MAX_GRANTS", 2)
    change(alice, add=(BOB_USES, Granted("mallory", Verb.USE)))
    with pytest.raises(InvalidAccess):
        change(alice, add=(Granted("bob", Verb.PUSH),))

    assert ModelGrant.objects.count() == 2


def test_team_of_others_is_not_named_to_whoever_may_manage(
    alice: User, bob: User, admin: User, team: Team
) -> None:
    given = (Granted("vision", Verb.USE), Granted("bob", Verb.MANAGE))
    owners = change(alice, add=given)
    Membership.objects.all().delete()
    told = read_access(TINY, by=seen(bob))

    assert owners.using_teams == ["vision"]
    assert read_access(TINY, by=seen(alice)).using_teams == ["vision"], "who gave it takes it back"
    assert told.using_teams == [grants.OTHER_TEAM]
    assert told.using_users == ["alice", "bob"]


def test_operators_pin_any_model_and_owners_give_its_memory_back(alice: User, admin: User) -> None:
    with pytest.raises(Forbidden):
        change(alice, is_pinned=True)
    key = LanguageModel.objects.get(name="tiny").pk
    with pytest.raises(Forbidden):
        grants.set_pinned(key, is_pinned=True, by=seen(alice))
    grants.set_pinned(key, is_pinned=True, by=seen(admin))
    freed = change(alice, is_pinned=False)

    assert not freed.is_pinned
    assert [act[:3] for act in acts()] == [
        ("model.pin", "root", "alice/tiny"),
        ("model.unpin", "alice", "alice/tiny"),
    ]


def test_pin_of_a_model_that_is_gone_is_refused(admin: User) -> None:
    with pytest.raises(ModelNotFound):
        grants.set_pinned(0, is_pinned=True, by=seen(admin))


def test_command_changes_and_tells_what_holds(capsys: pytest.CaptureFixture[str]) -> None:
    call_command(
        "set_model", "alice/tiny", "--visibility", "everyone", "--grant", "bob=push", "--unpin"
    )
    call_command("set_model", "alice/tiny", "--revoke", "bob=push", "--grant", "bob=use")

    assert capsys.readouterr().out.splitlines() == [
        "alice/tiny: cache scope user, not pinned, visible to everyone, bob may push",
        "alice/tiny: cache scope user, not pinned, visible to everyone, bob may use",
    ]


@pytest.mark.parametrize("text", ["bob", "bob=read", "=use", "nobody=use"])
def test_command_refuses_what_is_no_right(text: str) -> None:
    with pytest.raises(CommandError):
        call_command("set_model", "alice/tiny", "--grant", text)
