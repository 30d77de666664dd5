"""The pages of teams and invites: who sees what there, and who may do what."""

import re
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from models_app import limits
from models_app.accounts import create_user
from models_app.invites import create_invite
from models_app.keys import create_key
from models_app.limit_book import forget_rules
from models_app.limit_kinds import Limit, Period, Unit
from models_app.limit_rules import NewRule, put_rule
from models_app.limits import LimitState
from models_app.models import Invite, Membership, Team, User
from models_app.permissions import Principal, SiteRole, TeamRole
from models_app.teams import create_service_account, create_team, set_member
from tests.pages.conftest import BROWSER
from tests.pages.test_keys import words
from tests.pages.test_signin import csrf_token

pytestmark = pytest.mark.django_db
HOSTILE = "<img src=x onerror=alert(1)>"
LINK = re.compile(r"http://[^<\s]+/invite/[A-Za-z0-9_-]{40,}")


@pytest.fixture
def vision(bob: User) -> str:
    """A team with somebody in each role: bob owns it."""
    create_team("vision", description="Pictures", by=None)
    set_member("vision", "bob", TeamRole.OWNER, by=None)
    for role in (TeamRole.MAINTAINER, TeamRole.MEMBER, TeamRole.VIEWER):
        create_user(str(role), None)
        set_member("vision", str(role), role, by=None)
    create_service_account("vision", "robot", by=None)
    return "vision"


def sign_in(name: str) -> Client:
    """Return a browser of somebody."""
    client = Client(headers={"accept": BROWSER}, enforce_csrf_checks=True)
    client.force_login(User.objects.get(username=name))
    return client


def do(client: Client, path: str, **fields: Any) -> Any:
    """Send a form of the team's page and follow it."""
    token = csrf_token(client.get("/teams"))
    return client.post(path, {"csrfmiddlewaretoken": token, **fields}, follow=True)


def roles() -> dict[str, str]:
    return dict(Membership.objects.values_list("user__username", "role"))


# ------------------------------------------------------------------ the list


def test_whoever_is_in_no_team_is_told_how_to_get_into_one(as_bob: Client) -> None:
    assert "You are in no team yet" in words(as_bob.get("/teams"))


def test_list_has_ones_own_teams(as_bob: Client, vision: str) -> None:
    create_team("secret", by=None)
    shown = words(as_bob.get("/teams"))

    assert "vision Pictures owner 5 0" in shown
    assert "secret" not in shown


def test_administrator_sees_all_and_makes_one(as_alice: Client, bob: User) -> None:
    assert "There is no team yet" in words(as_alice.get("/teams"))
    page = do(as_alice, "/teams", name="speech", owner="bob", description=HOSTILE)

    assert page.redirect_chain == [("/teams/speech", 302)]
    assert roles() == {"bob": "owner"}
    assert "&lt;img src=x" in page.content.decode()
    assert HOSTILE not in page.content.decode()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ""}, "Give the team a name."),
        ({"name": "a b"}, "cannot be a team name"),
        ({"name": "speech", "owner": "nobody"}, "User 'nobody' not found."),
        ({"name": "alice"}, "There is already a user"),
    ],
)
def test_what_is_wrong_with_a_new_team_is_told(
    as_alice: Client, fields: dict[str, str], sentence: str
) -> None:
    page = do(as_alice, "/teams", **{"description": "kept"} | fields)

    assert page.status_code == 400
    assert sentence in words(page)
    assert 'value="kept"' in page.content.decode()
    assert not Team.objects.exists()


def test_nobody_else_makes_a_team(as_bob: Client) -> None:
    assert "New team" not in words(as_bob.get("/teams"))
    assert do(as_bob, "/teams", name="speech").status_code == 403


# ------------------------------------------------------------------ who sees what


def test_team_is_not_there_for_strangers(as_bob: Client) -> None:
    create_team("secret", by=None)
    assert words(as_bob.get("/teams/secret")) == words(as_bob.get("/teams/nothing"))
    assert as_bob.get("/teams/secret").status_code == 404


@pytest.mark.parametrize("name", ["maintainer", "member", "viewer"])
def test_members_see_each_other_and_change_nothing(vision: str, name: str) -> None:
    create_invite(team_name=vision, note="for Frank", by=None)
    page = sign_in(name).get("/teams/vision")
    shown, text = words(page), page.content.decode()

    assert f"you are {name}" in shown
    assert "robot" in shown
    assert "for Frank" not in shown
    targets = set(re.findall(r'<form[^>]*action="(/teams[^"]*)"', text))
    assert targets == {f"/teams/vision/members/{name}/remove"}


def test_owner_has_a_form_for_all_that_owners_may(as_bob: Client, vision: str) -> None:
    create_invite(team_name=vision, note="for Frank", by=None)
    page = as_bob.get("/teams/vision")
    targets = set(re.findall(r'<form[^>]*action="/teams/vision/([^"]*)"', page.content.decode()))

    assert "for Frank" in words(page)
    assert targets >= {
        "description",
        "delete",
        "invites",
        "service-accounts",
        "members/viewer",
        "members/viewer/remove",
        "service-accounts/robot/deactivate",
    }
    assert "allowed-models" not in targets
    assert "members" not in targets


def test_auditor_looks_and_changes_nothing(vision: str) -> None:
    user = create_user("audrey", None)
    User.objects.filter(pk=user.pk).update(site_role=SiteRole.AUDITOR)
    create_invite(team_name=vision, note="for Frank", by=None)
    page = sign_in("audrey").get("/teams/vision")

    assert "you are not in it" in words(page)
    assert "for Frank" in words(page)
    assert 'action="/teams' not in page.content.decode()


def test_maintainer_sees_the_keys_of_service_accounts(vision: str) -> None:
    key, _ = create_key(User.objects.get(username="robot"), "nightly")

    assert f"/keys/{key.prefix}" in sign_in("maintainer").get("/teams/vision").content.decode()
    assert key.prefix not in sign_in("member").get("/teams/vision").content.decode()


@pytest.mark.parametrize("people", [2, 20])
def test_number_of_queries_does_not_grow_with_the_team(
    as_bob: Client,
    vision: str,
    people: int,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(people):
        create_user(f"person{number}", None)
        set_member("vision", f"person{number}", TeamRole.MEMBER, by=None)
        create_invite(team_name=vision, by=None)
    for number in range(people // 2):
        account = create_service_account("vision", f"robot{number}", by=None)
        create_key(account, "its")
    as_bob.get("/teams/vision")
    with django_assert_num_queries(15):
        as_bob.get("/teams/vision")


# ------------------------------------------------------------------ what is done


def test_owner_changes_a_role_and_puts_somebody_out(as_bob: Client, vision: str) -> None:
    page = do(as_bob, "/teams/vision/members/viewer", role="maintainer")
    assert "The role of viewer is changed." in words(page)
    assert roles()["viewer"] == "maintainer"

    page = do(as_bob, "/teams/vision/members/viewer/remove")
    assert "viewer has left vision." in words(page)
    assert "viewer" not in roles()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("members/member", {"role": "owner"}),
        ("members/viewer/remove", {}),
        ("description", {"description": "x"}),
        ("invites", {"role": "owner", "days": "7"}),
        ("service-accounts", {"name": "another", "role": "member"}),
        ("service-accounts/robot/deactivate", {}),
        ("delete", {"confirm": "vision"}),
        ("members", {"username": "bob", "role": "owner"}),
        ("allowed-models", {"allowed_models": "*"}),
    ],
)
def test_members_are_refused_and_strangers_learn_nothing(
    vision: str, path: str, fields: dict[str, str]
) -> None:
    create_user("stranger", None)
    before = roles()
    is_admins = path in {"members", "allowed-models"}

    assert do(sign_in("maintainer"), f"/teams/vision/{path}", **fields).status_code == 403
    refused = do(sign_in("stranger"), f"/teams/vision/{path}", **fields).status_code
    assert refused == (403 if is_admins else 404)
    assert roles() == before
    assert not Invite.objects.exists()


def test_everybody_may_leave(vision: str) -> None:
    page = do(sign_in("viewer"), "/teams/vision/members/viewer/remove")

    assert page.redirect_chain == [("/teams", 302)]
    assert "viewer has left vision." in words(page)
    assert "viewer" not in roles()


def test_last_owner_is_told_why_they_stay(as_bob: Client, vision: str) -> None:
    page = do(as_bob, "/teams/vision/members/bob/remove")
    assert "Vision has no other owner: make somebody else one first." in words(page)

    page = do(as_bob, "/teams/vision/members/bob", role="member")
    assert page.status_code == 400
    assert "has no other owner" in words(page)
    assert roles()["bob"] == "owner"


def test_administrator_takes_somebody_in(as_alice: Client, vision: str) -> None:
    create_user("newcomer", None)
    page = do(as_alice, "/teams/vision/members", username="newcomer", role="viewer")
    assert "They are in the team." in words(page)
    assert roles()["newcomer"] == "viewer"

    page = do(as_alice, "/teams/vision/members", username="nobody", role="viewer")
    assert page.status_code == 400
    assert 'value="nobody"' in page.content.decode()


def test_service_account_is_made_stopped_and_started(as_bob: Client, vision: str) -> None:
    page = do(as_bob, "/teams/vision/service-accounts", name="cron", role="maintainer")
    assert "The account is there." in words(page)
    assert roles()["cron"] == "maintainer"

    page = do(as_bob, "/teams/vision/service-accounts/cron/deactivate")
    assert "cron is deactivated" in words(page)
    assert not User.objects.get(username="cron").is_active

    page = do(as_bob, "/teams/vision/service-accounts/cron/activate")
    assert User.objects.get(username="cron").is_active


def test_people_are_no_service_accounts(as_alice: Client, vision: str) -> None:
    page = do(as_alice, "/teams/vision/service-accounts/member/deactivate")

    assert page.status_code == 404
    assert User.objects.get(username="member").is_active


def test_list_of_models_is_the_administrators(as_alice: Client, vision: str) -> None:
    do(as_alice, "/teams/vision/allowed-models", allowed_models="llama* qwen3:*")
    assert Team.objects.get().allowed_models == "llama* qwen3:*"

    page = do(as_alice, "/teams/vision/allowed-models", allowed_models="a//b")
    assert page.status_code == 400
    assert "is no pattern of model names" in words(page)


def test_team_is_deleted_by_who_types_its_name(as_bob: Client, vision: str) -> None:
    page = do(as_bob, "/teams/vision/delete", confirm="vison")
    assert page.status_code == 400
    assert "This is not the team’s name." in words(page)

    page = do(as_bob, "/teams/vision/delete", confirm="vision")
    assert page.redirect_chain == [("/teams", 302)]
    assert not Team.objects.exists()


def test_nothing_is_changed_by_a_link_or_without_the_forms_token(
    as_bob: Client, vision: str
) -> None:
    for path in ("members/viewer/remove", "delete", "invites", "service-accounts/robot/deactivate"):
        assert as_bob.get(f"/teams/vision/{path}").status_code == 405
        assert as_bob.post(f"/teams/vision/{path}", {"confirm": "vision"}).status_code == 403
    assert roles()["viewer"] == "viewer"


# ------------------------------------------------------------------ invites


def test_link_of_an_invite_is_shown_once_and_works(as_bob: Client, vision: str) -> None:
    page = do(as_bob, "/teams/vision/invites", role="maintainer", note="Frank", days="1")
    [link] = set(LINK.findall(page.content.decode()))

    assert page.status_code == 201
    assert "no-store" in page["Cache-Control"]
    assert "becomes maintainer of vision" in words(page)
    shown = as_bob.get("/teams/vision").content.decode()
    assert "Frank" in shown
    assert not LINK.search(shown)
    path = link.partition("//")[2].partition("/")[2]
    opened = Client(headers={"accept": BROWSER}).get(f"/{path}", follow=True)
    assert "Join vision" in words(opened)


def test_owner_revokes_an_invite(as_bob: Client, vision: str) -> None:
    invite = create_invite(team_name=vision, by=None).record
    page = do(as_bob, f"/invites/{invite.invite_id}/revoke", at_team="1")

    assert page.redirect_chain == [("/teams/vision", 302)]
    assert "The invite is revoked" in words(page)
    assert do(as_bob, f"/invites/{invite.invite_id}/revoke").status_code == 404


def test_administrator_invites_to_the_site(as_alice: Client) -> None:
    page = do(as_alice, "/invites", note="Grace", days="30")
    assert LINK.search(page.content.decode()), words(page)
    assert "makes an account" in words(page)

    shown = words(as_alice.get("/invites"))
    assert "Grace account by alice" in shown
    page = do(as_alice, f"/invites/{Invite.objects.get().pk}/revoke")
    assert page.redirect_chain == [("/invites", 302)]
    assert "Used, revoked and expired 1" in words(page)


def test_others_see_their_teams_invites_alone(as_bob: Client, vision: str) -> None:
    create_invite(team_name=vision, note="mine", by=None)
    site = create_invite(note="the site's", by=None).record
    shown = words(as_bob.get("/invites"))

    assert "mine" in shown
    assert "the site's" not in shown
    assert "Invite somebody to this site" not in shown
    assert do(as_bob, "/invites", days="7").status_code == 403
    assert do(as_bob, f"/invites/{site.invite_id}/revoke").status_code == 404


# ------------------------------------------------------------------ limits


def test_limits_of_the_team_are_told_with_what_is_left(
    as_bob: Client, vision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(principal: Principal) -> list[LimitState]:
        assert principal.team is not None
        limits_of = {f"team:{principal.team.team_id}": 5000, f"user:{principal.user_id}": 77}
        return [
            LimitState(Limit(subject, Unit.TOKENS, Period.DAY, amount), amount - 7, 0, 0)
            for subject, amount in limits_of.items()
        ]

    monkeypatch.setattr(limits, "look", look)
    shown = words(as_bob.get("/teams/vision"))

    assert "5,000 tokens a day 4,993 left" in shown
    assert "77" not in shown


def test_page_is_shown_where_nobody_can_tell_what_is_left(
    as_bob: Client, vision: str, settings: Settings
) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    put_rule(None, NewRule(subject="team", name=vision, unit="tokens", period="day", amount=5000))
    forget_rules()

    assert "What is left cannot be told" in words(as_bob.get("/teams/vision"))
