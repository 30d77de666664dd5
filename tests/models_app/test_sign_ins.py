"""Guessing passwords ends soon, keeps nobody else out, and every try is in the audit."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from time_machine import TimeMachineFixture

from models_app import people
from models_app.audit_log import AuditQuestion, find_entries, verify
from models_app.models import User
from tests.conftest import PASSWORD
from tests.limited import redis_socket, redis_url

__all__ = ["redis_socket", "redis_url"]

pytestmark = pytest.mark.django_db

HERE, ELSEWHERE = "192.0.2.7", "198.51.100.9"
PAGE = {"accept": "text/html"}


@pytest.fixture(autouse=True)
def _three_wrong_passwords(settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    settings.AXES_COOLOFF_TIME = timedelta(minutes=10)


def sign_in(
    name: str, password: str, address: str = HERE, client: Client | None = None, **more: Any
) -> Any:
    fields = {"username": name, "password": password}
    return (client or Client(headers=PAGE)).post("/signin", fields, REMOTE_ADDR=address, **more)


def guess(name: str, times: int, address: str = HERE, **more: Any) -> list[int]:
    return [sign_in(name, f"wrong {n}", address, **more).status_code for n in range(times)]


def acts(kind: str) -> list[tuple[str, str, str]]:
    found = find_entries(AuditQuestion(action=kind), limit=50)
    return [(record.action, record.actor, record.subject) for record in found]


def test_wrong_passwords_end_in_429_also_for_the_right_one(alice: User) -> None:
    assert guess("alice", 3) == [200, 200, 429]
    refused = sign_in("alice", PASSWORD)
    assert (refused.status_code, refused["Retry-After"]) == (429, "600")
    assert "too many attempts" in refused.content.decode()


def test_name_that_does_not_exist_is_treated_like_one_that_does(alice: User) -> None:
    known, unknown = guess("alice", 4), guess("nobody", 4)
    assert known == unknown == [200, 200, 429, 429]


def test_answers_tell_nothing_about_whether_a_name_exists(alice: User) -> None:
    def told(name: str) -> str:
        page = sign_in(name, "wrong").content.decode().replace(name, "NAME")
        return re.sub(r'"[A-Za-z0-9]{64}"', "", page)  # the token of a form

    assert told("alice") == told("nobody")


def test_stranger_keeps_nobody_out_elsewhere(alice: User) -> None:
    guess("alice", 5)
    assert sign_in("alice", PASSWORD, ELSEWHERE).status_code == 302


def test_others_behind_the_same_address_still_sign_in(alice: User, bob: User) -> None:
    guess("alice", 5)
    assert sign_in("bob", PASSWORD).status_code == 302


def test_spelling_a_name_otherwise_gives_no_more_tries(alice: User) -> None:
    guess("alice", 2)
    assert sign_in("ALICE", "wrong").status_code == 429


def test_another_browser_gives_no_more_tries(alice: User) -> None:
    guess("alice", 2, headers={"user-agent": "one"})
    assert guess("alice", 1, headers={"user-agent": "another"}) == [429]


def test_addresses_of_one_ipv6_network_are_one(alice: User) -> None:
    statuses = [guess("alice", 1, f"2001:db8::{n}")[0] for n in range(1, 5)]
    assert statuses == [200, 200, 429, 429]


def test_address_is_what_a_trusted_proxy_says_and_nobody_else(alice: User, settings: Any) -> None:
    forged = [guess("alice", 1, HERE, HTTP_X_FORWARDED_FOR=f"10.0.0.{n}")[0] for n in range(4)]
    assert forged[-1] == 429

    settings.TRUSTED_PROXIES = ["203.0.113.1/32"]
    through = [
        guess("alice", 1, "203.0.113.1", HTTP_X_FORWARDED_FOR=f"10.0.0.{n}")[0] for n in range(4)
    ]
    assert through == [200] * 4


def test_waiting_helps(alice: User, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to("2026-01-01T12:00:00Z", tick=False)
    guess("alice", 3)
    time_machine.move_to("2026-01-01T12:09:00Z", tick=False)
    assert sign_in("alice", PASSWORD).status_code == 429
    # Who was refused meanwhile does not wait longer for it.
    time_machine.move_to("2026-01-01T12:10:01Z", tick=False)
    assert sign_in("alice", PASSWORD).status_code == 302


def test_right_password_forgets_the_wrong_ones(alice: User) -> None:
    guess("alice", 2)
    assert sign_in("alice", PASSWORD).status_code == 302
    assert guess("alice", 2) == [200, 200]


def test_one_address_cannot_try_names_without_end(
    alice: User, settings: Any, redis_url: str, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to("2026-01-01T12:00:10Z", tick=False)
    settings.REDIS_URL, settings.SIGN_INS_PER_MINUTE = redis_url, 3
    assert [guess(f"name{n}", 1)[0] for n in range(4)] == [200, 200, 200, 429]
    refused = sign_in("alice", PASSWORD)
    assert (refused.status_code, refused["Retry-After"]) == (429, "50")
    assert sign_in("alice", PASSWORD, ELSEWHERE).status_code == 302


def test_admin_pages_have_no_sign_in_of_their_own(admin: User) -> None:
    for method in ("get", "post"):
        answer = getattr(Client(headers=PAGE), method)("/admin/login/")
        assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/signin")


# ------------------------------------------------------------------ the audit
def test_sign_in_and_out_are_recorded(alice: User) -> None:
    client = Client(headers=PAGE)
    sign_in("alice", PASSWORD, client=client)
    client.post("/signout")
    assert acts("signin") == [("signin.ok", "alice", "alice")]
    assert acts("signout") == [("signout", "alice", "alice")]
    assert verify().fault == ""


def test_wrong_password_is_recorded_under_the_name_it_was_for(alice: User) -> None:
    guess("alice", 4)
    assert acts("signin") == [
        ("signin.locked", "", "alice"),
        ("signin.locked", "", "alice"),
        ("signin.failed", "", "alice"),
        ("signin.failed", "", "alice"),
    ]


def test_password_typed_as_a_name_is_in_no_record(alice: User) -> None:
    secret = "hunter2-is-my-password"
    sign_in(secret, secret)
    found = find_entries(AuditQuestion(action="signin"), limit=5)
    assert [(record.subject, record.details) for record in found] == [("", {"is_known": False})]


# ------------------------------------------------------------------ sessions
def test_session_key_changes_at_sign_in(alice: User, bob: User) -> None:
    client = Client(headers=PAGE)
    client.force_login(bob)
    before = client.cookies["ollamasite_session"].value
    client.post("/signout")
    sign_in("alice", PASSWORD, client=client)
    after = client.cookies["ollamasite_session"].value
    assert after != before
    assert not Session.objects.filter(session_key=before).exists()


def test_sessions_end_when_the_password_changes(alice: User) -> None:
    client = Client(headers=PAGE)
    client.force_login(alice)
    assert client.get("/home").status_code == 200
    people.set_password(alice, "another correct horse battery", by=None)
    assert client.get("/home")["Location"].startswith("/signin")


def test_session_that_is_used_goes_on(
    alice: User, settings: Any, time_machine: TimeMachineFixture
) -> None:
    settings.SESSION_COOKIE_AGE = 1000
    time_machine.move_to("2026-01-01T12:00:00Z", tick=False)
    client = Client(headers=PAGE)
    client.force_login(alice)
    for minute in (10, 20, 30):
        time_machine.move_to(f"2026-01-01T12:{minute}:00Z", tick=False)
        assert client.get("/home").status_code == 200
    time_machine.move_to("2026-01-01T13:00:00Z", tick=False)
    assert client.get("/home").status_code == 302


def test_session_is_not_written_with_every_request(
    alice: User, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to("2026-01-01T12:00:00Z", tick=False)
    client = Client(headers=PAGE)
    client.force_login(alice)
    assert "ollamasite_session" in client.get("/home").cookies
    assert "ollamasite_session" not in client.get("/home").cookies
