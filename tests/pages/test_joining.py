"""Pages by which people come in: invites, signing up, passwords."""

import logging
import re
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from pytest_django.fixtures import Settings
from time_machine import TimeMachineFixture

from models_app import invites, people
from models_app.keys import create_key
from models_app.models import Invite, Membership, User
from models_app.permissions import TeamRole
from models_app.teams import create_service_account, create_team, set_member
from tests.pages.catalogue import PASSWORD
from tests.pages.conftest import BROWSER
from tests.pages.test_signin import csrf_token

pytestmark = pytest.mark.django_db
NEW_PASSWORD = "another long password"


def text_of(page: Any) -> str:
    return " ".join(page.content.decode().split())


def fill(client: Client, path: str, **fields: str) -> Any:
    """Send the form of a page, as a browser would."""
    token = csrf_token(client.get(path, follow=True))
    return client.post(path, {"csrfmiddlewaretoken": token, **fields}, follow=True)


def account(username: str = "carol", password: str = PASSWORD, again: str = "") -> dict[str, str]:
    return {"username": username, "password": password, "again": again or password}


def invite(team: str = "", role: TeamRole = TeamRole.MEMBER) -> str:
    """Make an invite and return the path of its page."""
    return invites.create_invite(team_name=team, role=role, by=None).path


@pytest.fixture
def vision(alice: User) -> str:
    create_team("vision", by=None)
    set_member("vision", "alice", TeamRole.OWNER, by=None)
    return "vision"


# ------------------------------------------------------------------ invites


def test_stranger_makes_an_account_by_an_invite_and_is_signed_in(
    browser: Client, vision: str
) -> None:
    page = browser.get(invite(vision, TeamRole.MAINTAINER), follow=True)
    assert page.redirect_chain == [("/invite", 302)]
    assert "Join vision" in text_of(page)
    assert "as maintainer" in text_of(page)
    page = fill(browser, "/invite", **account())

    assert page.redirect_chain == [("/home", 302)]
    assert page.context["user"].username == "carol"
    place = Membership.objects.get(user__username="carol")
    assert (place.team.name, place.role) == ("vision", "maintainer")


def test_whoever_is_signed_in_joins_with_a_button(as_bob: Client, bob: User, vision: str) -> None:
    page = as_bob.get(invite(vision), follow=True)
    assert "Join as bob" in text_of(page)
    assert fill(as_bob, "/invite").redirect_chain == [("/home", 302)]
    assert Membership.objects.filter(user=bob, team__name="vision").exists()


def test_whoever_has_an_account_signs_in_and_comes_back(
    browser: Client, bob: User, vision: str
) -> None:
    page = browser.get(invite(vision), follow=True)
    assert 'href="/signin?next=/invite"' in text_of(page)
    page = fill(browser, "/signin", username="bob", password=PASSWORD, next="/invite")

    assert page.redirect_chain == [("/invite", 302)]
    assert "Join as bob" in text_of(page)


def test_invite_for_an_account_tells_who_has_one(as_bob: Client) -> None:
    page = as_bob.get(invite(), follow=True)

    assert "somebody without an account" in text_of(page)
    assert 'type="submit"' not in text_of(page)


def test_member_is_told_that_they_are_one(as_alice: Client, vision: str) -> None:
    as_alice.get(invite(vision))
    page = fill(as_alice, "/invite")

    assert page.status_code == 409
    assert "you are owner of vision already" in text_of(page)
    assert Invite.objects.get().used_at is None


@pytest.mark.parametrize("path", ["/invite", "/invite/wrong", "/invite/" + "x" * 500])
def test_without_a_good_invite_the_page_says_what_to_do(browser: Client, path: str) -> None:
    page = browser.get(path)

    assert page.status_code == 404
    assert "not good any longer" in text_of(page)


def test_invite_that_is_over_while_its_form_is_open_makes_no_account(browser: Client) -> None:
    browser.get(invite())
    token = csrf_token(browser.get("/invite"))
    invites.revoke_invite(Invite.objects.get().pk, by=None)
    page = browser.post("/invite", {"csrfmiddlewaretoken": token, **account()})

    assert page.status_code == 404
    assert not User.objects.exists()


def test_secret_of_an_invite_is_in_no_page_session_or_log(
    browser: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = invite()
    secret = path.rpartition("/")[2]
    first = browser.get(path)
    shown = browser.get(first["Location"])

    assert (first.status_code, first["Location"]) == (302, "/invite")
    assert "no-store" in first["Cache-Control"]
    assert secret not in shown.content.decode()
    assert secret not in str([row.get_decoded() for row in Session.objects.all()])
    assert secret not in caplog.text


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (account(username="alice"), "This name cannot be had here"),
        (account(username="Vision"), "This name cannot be had here"),
        (account(username="a b"), "cannot be a user name"),
        (account(username=""), "Choose a user name."),
        (account(password="short"), "too short"),
        (account(again="something else"), "The two passwords are not the same."),
        (account(username="longenough1", password="longenough1"), "too similar to the username"),
    ],
)
def test_what_is_wrong_stands_beside_the_field(
    browser: Client, vision: str, fields: dict[str, str], sentence: str
) -> None:
    browser.get(invite())
    page = fill(browser, "/invite", **fields)

    assert page.status_code == 400
    assert sentence in text_of(page)
    assert re.findall(
        r"<input[^>]*aria-invalid[^>]*autofocus|autofocus[^>]*aria-invalid", text_of(page)
    )
    assert PASSWORD not in text_of(page)
    assert User.objects.count() == 1


def test_nothing_is_done_without_the_forms_token(browser: Client) -> None:
    browser.get(invite())
    assert browser.post("/invite", account()).status_code == 403
    assert not User.objects.exists()


# ------------------------------------------------------------------ signing up


def test_signing_up_is_off_at_first(browser: Client) -> None:
    assert browser.get("/signup").status_code == 404
    assert "/signup" not in text_of(browser.get("/signin"))


@pytest.mark.parametrize("mode", ["approval", "open"])
def test_sign_in_page_leads_to_signing_up(browser: Client, settings: Settings, mode: str) -> None:
    settings.SIGN_UP = mode
    assert 'href="/signup"' in text_of(browser.get("/signin"))
    assert browser.get("/signup").status_code == 200


def test_open_site_signs_in_at_once(browser: Client, settings: Settings) -> None:
    settings.SIGN_UP = "open"
    page = fill(browser, "/signup", **account())

    assert page.redirect_chain == [("/home", 302)]
    assert page.context["user"].username == "carol"


def test_who_waits_cannot_sign_in_until_approved(browser: Client, settings: Settings) -> None:
    settings.SIGN_UP = "approval"
    page = fill(browser, "/signup", **account())
    assert page.redirect_chain == [("/signin", 302)]
    assert "when an administrator has let you in" in text_of(page)
    signed_in = {"username": "carol", "password": PASSWORD}
    assert "do not match" in text_of(fill(browser, "/signin", **signed_in))

    people.approve("carol", by=None)
    assert fill(browser, "/signin", **signed_in).redirect_chain[-1][0] == "/home"


def test_too_many_accounts_from_one_address_have_to_wait(
    browser: Client, settings: Settings, time_machine: TimeMachineFixture
) -> None:
    # No hour ends between two of them.
    time_machine.move_to("2026-01-01T12:00:10Z", tick=False)
    settings.SIGN_UP, settings.SIGN_UPS_PER_HOUR = "open", 2
    statuses = []
    for name in ("a1", "a2", "a3"):
        page = fill(browser, "/signup", **account(name))
        statuses.append(page.status_code)
        browser.logout()

    assert statuses == [200, 200, 429]
    assert User.objects.count() == 2


# ------------------------------------------------------------------ passwords


def link_of(user: User) -> str:
    return people.password_link(user.username, by=None)


def choose(client: Client, path: str, password: str = NEW_PASSWORD) -> Any:
    form = client.get(path, follow=True)
    token = csrf_token(form)
    fields = {"new_password1": password, "new_password2": password}
    target = form.redirect_chain[-1][0]
    return client.post(target, {"csrfmiddlewaretoken": token, **fields}, follow=True)


def test_new_password_by_a_link_once(browser: Client, bob: User) -> None:
    path = link_of(bob)
    assert "The new password is set." in text_of(choose(browser, path))
    assert User.objects.get(pk=bob.pk).check_password(NEW_PASSWORD)
    again = browser.get(path)
    assert again.status_code == 404
    assert "not good any longer" in text_of(again)


def test_secret_of_a_link_is_not_in_the_address_of_the_form(browser: Client, bob: User) -> None:
    path = link_of(bob)
    page = browser.get(path, follow=True)

    assert page.status_code == 200
    assert path.rpartition("/")[2] not in page.redirect_chain[-1][0] + page.content.decode()


def test_bad_new_password_is_told(browser: Client, bob: User) -> None:
    page = choose(browser, link_of(bob), "short")

    assert page.status_code == 400
    assert "too short" in text_of(page)


@pytest.mark.parametrize("path", ["/password/x/y", "/password/MQ/x-y", "/password/%00/%00"])
def test_nonsense_is_no_link(browser: Client, bob: User, path: str) -> None:
    assert browser.get(path).status_code == 404


def test_link_of_a_closed_account_is_not_good(browser: Client, bob: User) -> None:
    path = link_of(bob)
    people.deactivate("bob", by=None)
    assert browser.get(path).status_code == 404


def test_link_is_for_no_service_account(browser: Client, bob: User, vision: str) -> None:
    path = link_of(bob)
    ci = create_service_account("vision", "ci", by=None)
    User.objects.filter(pk=bob.pk).update(service_of=ci.service_of)
    assert browser.get(path).status_code == 404


def test_own_password_is_changed_and_other_sessions_end(as_bob: Client, bob: User) -> None:
    other = Client(headers={"accept": BROWSER})
    other.force_login(bob)
    page = fill(
        as_bob,
        "/password",
        old_password=PASSWORD,
        new_password1=NEW_PASSWORD,
        new_password2=NEW_PASSWORD,
    )

    assert "The password is changed." in text_of(page)
    assert User.objects.get(pk=bob.pk).check_password(NEW_PASSWORD)
    assert as_bob.get("/home").status_code == 200
    assert other.get("/home").status_code == 302


def test_own_password_is_not_changed_without_the_old_one(as_bob: Client, bob: User) -> None:
    fields = {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    page = fill(as_bob, "/password", old_password="wrong", **fields)

    assert page.status_code == 400
    assert User.objects.get(pk=bob.pk).check_password(PASSWORD)


def test_old_password_is_not_guessed_on_the_page(
    as_bob: Client, bob: User, settings: Settings
) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    fields = {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    pages = [fill(as_bob, "/password", old_password=f"wrong {n}", **fields) for n in range(2)]
    last = fill(as_bob, "/password", old_password=PASSWORD, **fields)

    assert [page.status_code for page in [*pages, last]] == [400, 429, 429]
    assert User.objects.get(pk=bob.pk).check_password(PASSWORD)


def test_link_ends_when_sessions_are_ended(browser: Client, bob: User) -> None:
    path = link_of(bob)
    people.end_sessions("bob", by=None)
    assert browser.get(path).status_code == 404


def test_link_does_not_outlive_a_closed_account(browser: Client, bob: User) -> None:
    path = link_of(bob)
    people.deactivate("bob", by=None)
    people.activate("bob", by=None)
    assert browser.get(path).status_code == 404


def test_key_changes_no_password(browser: Client, bob: User) -> None:
    secret = create_key(bob, "all that Bob may")[1]
    assert (
        browser.get("/password", headers={"authorization": f"Bearer {secret}"}).status_code == 403
    )


@pytest.mark.parametrize("path", ["/invite", "/signup", "/password/x/y"])
def test_other_methods_are_refused(browser: Client, path: str) -> None:
    assert browser.put(path).status_code in {403, 405}
