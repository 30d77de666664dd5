"""Guesses are counted by address, for all processes together, and bounded in memory."""

import base64
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from redis import Redis
from time_machine import TimeMachineFixture

from models_app import attempts
from models_app.attempts import Attempt
from models_app.errors import TooManyAttempts
from models_app.keys import create_key
from models_app.models import User
from tests.fakes.http import AsgiClient
from tests.limited import redis_socket, redis_url

__all__ = ["redis_socket", "redis_url"]

ADDRESS = "192.0.2.7"
WRONG = f"osk-{'0' * 12}-{'0' * 48}"


@pytest.fixture(autouse=True)
def clock(time_machine: TimeMachineFixture) -> TimeMachineFixture:
    """The minutes that tries are counted in begin and end when a test says so."""
    time_machine.move_to("2026-01-01T12:00:10Z", tick=False)
    return time_machine


@pytest.fixture
def three_wrong_keys(settings: Any, redis_url: str) -> None:
    """So many are let through in a minute, and they are counted in a Redis."""
    settings.REDIS_URL = redis_url
    settings.WRONG_KEYS_PER_MINUTE = 3


def count_until_refused(address: str | None, most: int = 10) -> int:
    for number in range(most):
        try:
            attempts.note(Attempt.WRONG_KEY, address)
        except TooManyAttempts:
            return number
    return most


def test_tries_above_the_limit_are_refused_until_the_window_ends(
    three_wrong_keys: None, clock: TimeMachineFixture
) -> None:
    assert count_until_refused(ADDRESS) == 3
    with pytest.raises(TooManyAttempts) as refused:
        attempts.note(Attempt.WRONG_KEY, ADDRESS)
    assert refused.value.headers["Retry-After"] == "50"

    clock.shift(50)
    attempts.note(Attempt.WRONG_KEY, ADDRESS)


def test_another_address_has_tries_of_its_own(three_wrong_keys: None) -> None:
    assert count_until_refused(ADDRESS) == 3
    assert count_until_refused("198.51.100.1") == 3


def test_kinds_are_counted_apart(three_wrong_keys: None) -> None:
    assert count_until_refused(ADDRESS) == 3
    attempts.note(Attempt.WRONG_INVITE, ADDRESS)


def test_ipv6_addresses_of_one_network_are_one(three_wrong_keys: None) -> None:
    assert count_until_refused("2001:db8::1") == 3
    assert count_until_refused("2001:db8::ffff:2") == 0
    assert count_until_refused("2001:db8:0:1::1") == 3


def test_ipv4_in_clothes_of_ipv6_is_the_same_address(three_wrong_keys: None) -> None:
    assert count_until_refused(ADDRESS) == 3
    assert count_until_refused(f"::ffff:{ADDRESS}") == 0


def test_what_is_stored_is_bounded_and_goes_by_itself(
    three_wrong_keys: None, settings: Any
) -> None:
    for number in range(300):
        attempts.note(Attempt.WRONG_KEY, f"10.0.{number // 256}.{number % 256}")
    with Redis.from_url(settings.REDIS_URL) as redis:
        keys = redis.keys("ollamasite:attempts:*")
        assert len(keys) == 1
        assert all(0 < redis.ttl(key) <= 120 for key in keys)
        assert all(len(field) == 4 for key in keys for field in redis.hkeys(key))


def test_without_redis_every_process_counts_for_itself(
    settings: Any, tmp_path: Any, clock: TimeMachineFixture
) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    settings.WRONG_KEYS_PER_MINUTE = 3
    assert count_until_refused("203.0.113.99") == 3
    clock.shift(60)
    assert count_until_refused("203.0.113.99") == 3


# ------------------------------------------------------------------ keys
def ways(secret: str) -> list[dict[str, str]]:
    basic = base64.b64encode(f"x:{secret}".encode()).decode()
    return [
        {"authorization": f"Bearer {secret}"},
        {"x-api-key": secret},
        {"authorization": f"Basic {basic}"},
    ]


PATHS = ["/api/tags", "/v1/models", "/v1/messages/count_tokens", "/v2/", "/v2/a/b/blobs/uploads/"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", PATHS)
async def test_guessing_of_keys_ends_in_429_and_a_right_key_still_passes(
    three_wrong_keys: None, alice: User, path: str
) -> None:
    _, secret = await sync_to_async(create_key)(alice, "right")
    method = "POST" if path.endswith(("/", "tokens")) and path != "/v2/" else "GET"
    for headers in ways(WRONG):
        answer = await AsgiClient(headers).request(method, path)
        assert answer.status == 401
    for headers in ways(WRONG):
        answer = await AsgiClient(headers).request(method, path)
        assert answer.status == 429
        assert 0 < int(answer.headers["retry-after"]) <= 60
        assert "too many attempts" in answer.text
    for headers in ways(secret):
        answer = await AsgiClient(headers).request(method, path)
        assert answer.status not in {401, 429}


@pytest.mark.django_db(transaction=True)
async def test_right_keys_are_never_counted(three_wrong_keys: None, alice: User) -> None:
    _, secret = await sync_to_async(create_key)(alice, "right")
    client = AsgiClient({"authorization": f"Bearer {secret}"})
    assert [(await client.request("GET", "/api/tags")).status for _ in range(6)] == [200] * 6


@pytest.mark.django_db(transaction=True)
async def test_requests_without_a_credential_are_never_counted(three_wrong_keys: None) -> None:
    answers = [await AsgiClient().request("GET", "/api/tags") for _ in range(6)]
    assert {answer.status for answer in answers} == {401}
