"""The page about oneself: account, teams, sessions, one's data and its end."""

import json
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from models_app import browser_sessions
from models_app.browser_names import browser_name
from models_app.keys import create_key
from models_app.models import AuditEntry, BrowserSession, User
from models_app.permissions import SiteRole, TeamRole
from models_app.teams import create_team, set_member
from tests.pages.catalogue import PASSWORD
from tests.pages.conftest import BROWSER
from tests.pages.test_keys import words
from tests.pages.test_signin import csrf_token

pytestmark = pytest.mark.django_db
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def do(client: Client, path: str, *, at: str = "/profile", **fields: Any) -> Any:
    token = csrf_token(client.get(at))
    return client.post(path, {"csrfmiddlewaretoken": token, **fields}, follow=True)


def another_browser(user: User, agent: str = FIREFOX) -> Client:
    """Sign in with another browser, and look at a page."""
    client = Client(headers={"accept": BROWSER, "user-agent": agent})
    client.force_login(User.objects.get(pk=user.pk))
    noted = BrowserSession.objects.filter(session_key=client.session.session_key)
    noted.update(agent=agent, address="192.0.2.7")
    client.get("/profile")
    return client


def is_signed_in(client: Client) -> bool:
    return client.get("/profile").status_code == 200


def row_of(client: Client) -> BrowserSession:
    return BrowserSession.objects.get(session_key=client.session.session_key)


# ------------------------------------------------------------------ who one is


def test_stranger_is_sent_to_the_sign_in_page(browser: Client) -> None:
    assert browser.get("/profile")["Location"] == "/signin?next=%2Fprofile"


def test_page_says_who_one_is(as_bob: Client, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(email="bob@example.org")
    create_team("vision", by=None)
    set_member("vision", "bob", TeamRole.MAINTAINER, by=None)
    shown = words(as_bob.get("/profile"))

    assert "E-mail bob@example.org" in shown
    assert "vision maintainer" in shown
    assert "Administration" not in shown


@pytest.mark.parametrize(
    ("role", "links"),
    [
        (SiteRole.OPERATOR, {"Administration"}),
        (SiteRole.AUDITOR, {"Administration", "People", "Audit"}),
    ],
)
def test_staff_has_links_to_what_they_look_after(
    as_bob: Client, bob: User, role: SiteRole, links: set[str]
) -> None:
    User.objects.filter(pk=bob.pk).update(site_role=role)
    text = as_bob.get("/profile").content.decode()

    there = {
        word for word in ("Administration", "People", "Audit", "Invites") if f">{word}</a>" in text
    }
    assert there == links


def test_use_counts_to_the_team_that_one_chooses(as_bob: Client, bob: User) -> None:
    for name in ("vision", "speech"):
        create_team(name, by=None)
        set_member(name, "bob", TeamRole.MEMBER, by=None)
    do(as_bob, "/profile/home-team", team="speech")
    bob.refresh_from_db()
    assert bob.home_team is not None
    assert bob.home_team.name == "speech"

    create_team("secret", by=None)
    assert do(as_bob, "/profile/home-team", team="secret").status_code == 400
    do(as_bob, "/profile/home-team", team="")
    bob.refresh_from_db()
    assert bob.home_team is None


@pytest.mark.parametrize("count", [1, 20])
def test_number_of_queries_does_not_grow(
    as_bob: Client, bob: User, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(count):
        another_browser(bob)
        create_team(f"team{number}", by=None)
        set_member(f"team{number}", "bob", TeamRole.MEMBER, by=None)
    as_bob.get("/profile")
    with django_assert_num_queries(9):
        as_bob.get("/profile")


# ------------------------------------------------------------------ sessions


def test_sessions_are_told_with_browser_and_address(as_bob: Client, bob: User) -> None:
    another_browser(bob)
    shown = words(as_bob.get("/profile"))

    assert "Firefox on Linux from 192.0.2.7" in shown
    assert shown.count("this one") == 1


def test_sessions_of_others_are_not_shown(as_bob: Client, alice: User) -> None:
    another_browser(alice)
    assert "Firefox" not in words(as_bob.get("/profile"))


def test_ended_session_is_signed_out(as_bob: Client, bob: User) -> None:
    other = another_browser(bob)
    page = do(as_bob, f"/sessions/{row_of(other).pk}/end")

    assert "The session is over" in words(page)
    assert "Firefox" not in words(page)
    assert not is_signed_in(other)
    assert is_signed_in(as_bob)
    assert AuditEntry.objects.filter(action="user.end-session", actor_name="bob").exists()


def test_session_of_another_is_like_one_that_is_not_there(as_bob: Client, alice: User) -> None:
    other = another_browser(alice)
    theirs = do(as_bob, f"/sessions/{row_of(other).pk}/end")

    assert theirs.status_code == 404
    assert words(theirs) == words(do(as_bob, "/sessions/987654/end"))
    assert is_signed_in(other)


def test_all_others_are_signed_out_and_this_one_stays(as_bob: Client, bob: User) -> None:
    others = [another_browser(bob) for _ in range(2)]
    began_at = row_of(as_bob).began_at
    page = do(as_bob, "/sessions/end-others")

    assert "You are signed out everywhere else." in words(page)
    assert "Firefox" not in words(page)
    assert [is_signed_in(other) for other in others] == [False, False]
    assert is_signed_in(as_bob)
    assert row_of(as_bob).began_at == began_at


def test_session_from_before_another_password_is_not_listed(as_bob: Client, bob: User) -> None:
    another_browser(bob)
    fields = {
        "old_password": PASSWORD,
        "new_password1": "another long password",
        "new_password2": "another long password",
    }
    do(as_bob, "/password", at="/password", **fields)

    assert "Firefox" not in words(as_bob.get("/profile"))
    assert "this one" in words(as_bob.get("/profile"))


def test_use_is_noted_once_in_a_while(
    as_bob: Client, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_at = row_of(as_bob).seen_at
    as_bob.get("/profile")
    assert row_of(as_bob).seen_at == seen_at

    monkeypatch.setattr(browser_sessions, "_STEP_S", 0.0)
    as_bob.get("/profile")
    assert row_of(as_bob).seen_at > seen_at


def test_nothing_is_kept_of_sessions_that_are_over(as_bob: Client, bob: User) -> None:
    expired, signed_out = another_browser(bob), another_browser(bob)
    over = Session.objects.filter(session_key=expired.session.session_key)
    over.update(expire_date=timezone.now() - timedelta(seconds=1))
    Session.objects.filter(session_key=signed_out.session.session_key).delete()
    browser_sessions._Times.remove_at = 0.0
    browser_sessions.remove_over_in_time()

    assert [row.session_key for row in BrowserSession.objects.all()] == [as_bob.session.session_key]
    assert not over.exists()
    assert is_signed_in(as_bob)

    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    browser_sessions.remove_over_in_time()  # not every few seconds
    assert Session.objects.exists()


def test_signing_in_removes_what_has_expired_of_ones_own(as_bob: Client, bob: User) -> None:
    another_browser(bob)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    other = Client()
    other.force_login(bob)

    assert [row.session_key for row in BrowserSession.objects.all()] == [other.session.session_key]


def test_session_that_nobody_has_noted_is_noted_when_it_is_used(as_bob: Client) -> None:
    BrowserSession.objects.all().delete()
    browser_sessions._noted._noted_s.clear()
    as_bob.get("/profile", headers={"user-agent": "<b>x</b>\x00" + "y" * 500})

    assert len(row_of(as_bob).agent) == 200


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/130.0 Safari/537 Edg/130", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU like Mac OS X) Version/18.0 Safari/604", "Safari on iPhone"),
        ("<script>", ""),
        ("", ""),
    ],
)
def test_browsers_are_told_in_words(agent: str, name: str) -> None:
    assert browser_name(agent) == name


# ------------------------------------------------------------------ one's data


async def body_of(answer: Any) -> str:
    return b"".join([piece async for piece in answer.streaming_content]).decode()


def test_data_is_one_file_without_secrets(as_bob: Client, bob: User) -> None:
    _, secret = create_key(bob, "laptop")
    answer = as_bob.get("/profile/export")
    body = async_to_sync(body_of)(answer)
    found = json.loads(body)

    assert answer["Content-Disposition"] == 'attachment; filename="bob.json"'
    assert "no-store" in answer["Cache-Control"]
    assert found["keys"][0]["name"] == "laptop"
    assert len(found["sessions"]) == 1
    assert secret not in body
    assert str(as_bob.session.session_key) not in body


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"confirm": "bob", "password": "wrong"}, "The password is wrong."),
        ({"confirm": "rob", "password": PASSWORD}, "This is not your user name."),
        ({"confirm": "bob"}, "Enter your password."),
        ({}, "This is not your user name."),
    ],
)
def test_account_stays_unless_name_and_password_are_right(
    as_bob: Client, fields: dict[str, str], sentence: str
) -> None:
    page = do(as_bob, "/profile/delete", at="/profile/delete", **fields)

    assert page.status_code == 400
    assert sentence in words(page)
    assert PASSWORD not in page.content.decode()
    assert User.objects.filter(username="bob").exists()


def test_account_is_deleted(as_bob: Client) -> None:
    page = do(as_bob, "/profile/delete", at="/profile/delete", confirm="bob", password=PASSWORD)

    assert page.redirect_chain == [("/signin", 302)]
    assert "Your account is deleted" in words(page)
    assert not User.objects.filter(username="bob").exists()
    assert not BrowserSession.objects.exists()
    assert not is_signed_in(as_bob)


def test_last_administrator_is_told_why_they_stay(as_alice: Client) -> None:
    page = do(as_alice, "/profile/delete", at="/profile/delete", confirm="alice", password=PASSWORD)

    assert page.status_code == 400
    assert "Alice is the last administrator" in words(page)


def test_nothing_is_changed_by_a_link_or_without_the_forms_token(as_bob: Client) -> None:
    for path in (
        "/profile/home-team",
        "/sessions/end-others",
        f"/sessions/{row_of(as_bob).pk}/end",
    ):
        assert as_bob.get(path).status_code == 405
        assert as_bob.post(path).status_code == 403
    assert (
        as_bob.post("/profile/delete", {"confirm": "bob", "password": PASSWORD}).status_code == 403
    )
    assert is_signed_in(as_bob)
