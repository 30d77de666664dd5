"""Signing in and out, as a browser's form does it."""

import re
from typing import Any

import pytest
from django.test import Client

from models_app.models import User
from tests.pages.catalogue import PASSWORD

pytestmark = pytest.mark.django_db


def csrf_token(page: Any) -> str:
    """Return the token in a page's form."""
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.content.decode())
    assert found
    return found[1]


def sign_in(client: Client, username: str, password: str, **more: str) -> Any:
    """Open the form, fill it in and send it."""
    token = csrf_token(client.get("/signin"))
    fields = {"csrfmiddlewaretoken": token, "username": username, "password": password}
    return client.post("/signin", fields | more)


def sign_out(client: Client) -> Any:
    return client.post("/signout", {"csrfmiddlewaretoken": csrf_token(client.get("/home"))})


def test_right_password_leads_home(browser: Client, alice: User) -> None:
    answer = sign_in(browser, "alice", PASSWORD)
    assert (answer.status_code, answer["Location"]) == (302, "/home")
    assert browser.get("/home").status_code == 200


def test_page_that_was_asked_for_is_shown_after_sign_in(browser: Client, alice: User) -> None:
    refused = browser.get("/home?from=bookmark")
    assert refused["Location"] == "/signin?next=%2Fhome%3Ffrom%3Dbookmark"
    page = browser.get(refused["Location"])
    assert '<input type="hidden" name="next" value="/home?from=bookmark">' in page.content.decode()
    answer = sign_in(browser, "alice", PASSWORD, next="/home?from=bookmark")
    assert answer["Location"] == "/home?from=bookmark"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "http:evil.example",
        "https:///evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        " https://evil.example",
        "\thttps://evil.example",
        "http://testserver@evil.example/",
        "http://[",
        "/signin",
        "/signin?next=/signin",
        "/signout",
        "",
    ],
)
def test_target_that_is_no_page_to_come_back_to_is_ignored(
    browser: Client, alice: User, target: str
) -> None:
    answer = sign_in(browser, "alice", PASSWORD, next=target)
    assert (answer.status_code, answer["Location"]) == (302, "/home")


def test_unsafe_target_is_not_put_into_the_form(browser: Client, db: None) -> None:
    page = browser.get("/signin", {"next": "https://evil.example/"})
    assert "evil.example" not in page.content.decode()


def test_target_is_escaped_in_the_form(browser: Client, db: None) -> None:
    page = browser.get("/signin", {"next": '/"><script>alert(1)</script>'})
    assert "<script>alert" not in page.content.decode()


@pytest.mark.parametrize("target", ["", "?next=/signin", "?next=/home"])
def test_who_is_signed_in_already_is_sent_on(as_alice: Client, target: str) -> None:
    answer = as_alice.get(f"/signin{target}")
    assert (answer.status_code, answer["Location"]) == (302, "/home")


@pytest.mark.parametrize(
    ("username", "password"),
    [("alice", "wrong"), ("nobody", PASSWORD), ("a" * 10_000, PASSWORD), ("al\0ice", PASSWORD)],
)
def test_wrong_pair_gets_one_sentence_that_does_not_tell_which_is_wrong(
    browser: Client, alice: User, username: str, password: str
) -> None:
    page = sign_in(browser, username, password)
    text = page.content.decode()
    assert page.status_code == 200
    assert text.count('role="alert"') == 1
    assert "This user name and password do not match." in text


def test_closed_account_looks_like_a_wrong_password(browser: Client, alice: User) -> None:
    User.objects.update(is_active=False)
    assert "do not match" in sign_in(browser, "alice", PASSWORD).content.decode()


@pytest.mark.parametrize(("username", "password"), [("", ""), ("alice", ""), ("", "x")])
def test_empty_field_is_asked_for(browser: Client, db: None, username: str, password: str) -> None:
    text = sign_in(browser, username, password).content.decode()
    assert "Enter your user name and your password." in text


def test_name_that_was_typed_is_escaped_and_the_password_is_not_sent_back(
    browser: Client, db: None
) -> None:
    text = sign_in(browser, '"><img src=x onerror=alert(1)>', "my-secret").content.decode()
    assert "<img src=x" not in text
    assert "my-secret" not in text


def test_fields_are_labelled_and_known_to_password_managers(browser: Client, db: None) -> None:
    text = browser.get("/signin").content.decode()
    assert '<label for="id_username">' in text
    assert '<label for="id_password">' in text
    assert 'autocomplete="username"' in text
    assert 'autocomplete="current-password"' in text


def test_sign_in_page_is_not_kept_by_the_browser(browser: Client, db: None) -> None:
    assert "no-store" in browser.get("/signin")["Cache-Control"]


def test_session_gets_a_new_key(browser: Client, alice: User) -> None:
    session = browser.session
    session["planted"] = True
    session.save()
    browser.cookies["ollamasite_session"] = str(session.session_key)
    sign_in(browser, "alice", PASSWORD)
    assert browser.cookies["ollamasite_session"].value != session.session_key


def test_session_cookie_is_out_of_reach_of_scripts(browser: Client, alice: User) -> None:
    cookie = sign_in(browser, "alice", PASSWORD).cookies["ollamasite_session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_form_without_its_token_is_refused_with_a_page(browser: Client, alice: User) -> None:
    answer = browser.post("/signin", {"username": "alice", "password": PASSWORD})
    assert answer.status_code == 403
    assert "Go back, reload the page, try again." in answer.content.decode()
    assert "ollamasite_session" not in answer.cookies


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_refused(alice: User, method: str) -> None:
    client = Client(headers={"accept": "text/html"})
    answer = getattr(client, method)("/signin")
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, POST")


def test_sign_out_ends_the_session(as_alice: Client) -> None:
    answer = sign_out(as_alice)
    assert (answer.status_code, answer["Location"]) == (302, "/signin")
    assert as_alice.get("/home").status_code == 302


def test_sign_out_is_confirmed_once(as_alice: Client) -> None:
    sign_out(as_alice)
    assert "You are signed out." in as_alice.get("/signin").content.decode()
    assert "You are signed out." not in as_alice.get("/signin").content.decode()


def test_old_cookie_is_worthless_after_sign_out(as_alice: Client) -> None:
    cookie = as_alice.cookies["ollamasite_session"].value
    sign_out(as_alice)
    thief = Client(headers={"accept": "text/html"})
    thief.cookies["ollamasite_session"] = cookie
    assert thief.get("/home").status_code == 302


def test_link_cannot_sign_anyone_out(as_alice: Client) -> None:
    answer = as_alice.get("/signout")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert as_alice.get("/home").status_code == 200


def test_foreign_form_cannot_sign_anyone_out(as_alice: Client) -> None:
    assert as_alice.post("/signout").status_code == 403
    assert as_alice.get("/home").status_code == 200
