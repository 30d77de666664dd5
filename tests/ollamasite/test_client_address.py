"""From where a request comes, and whose word is taken for it."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from ollamasite.client_address import (
    address_of_scope,
    comes_through_trusted_proxy,
    current_address,
    is_from_networks,
)
from ollamasite.env import Environment
from ollamasite.request_context import RequestContext


def scope_from(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded]
    return {"type": "http", "client": [peer, 4711] if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        # Without the setting, the header is not looked at.
        ([], "192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        # Nobody but a proxy is believed.
        (["10.0.0.0/8"], "192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        (["10.0.0.0/8"], "10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        # What the client has written itself stands left of what the proxy has seen.
        (["10.0.0.0/8"], "10.0.0.1", ["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
        (["10.0.0.0/8"], "10.0.0.1", ["127.0.0.1", "203.0.113.9, 10.9.9.9"], "203.0.113.9"),
        # A proxy of the proxies asks for itself.
        (["10.0.0.0/8"], "10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["10.0.0.0/8"], "10.0.0.1", [], "10.0.0.1"),
        # What is no address ends the search where it is still known who told it.
        (["10.0.0.0/8"], "10.0.0.1", ["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
        (["10.0.0.0/8"], "10.0.0.1", [""], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", ["203.0.113.9:5000"], "203.0.113.9"),
        (["fd00::/8"], "fd00::1", ["[2001:db8::7]:443"], "2001:db8::7"),
        (["127.0.0.1/32"], "::ffff:127.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ([], "::ffff:192.0.2.1", [], "192.0.2.1"),
        ([], None, ["203.0.113.9"], None),
    ],
)
def test_client_is_who_the_last_trusted_proxy_has_seen(
    settings: Settings, trusted: list[str], peer: str | None, forwarded: list[str], client: str
) -> None:
    settings.TRUSTED_PROXIES = trusted

    assert address_of_scope(scope_from(peer, *forwarded)) == client


def test_only_trusted_proxies_are_trusted(settings: Settings) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]

    assert comes_through_trusted_proxy(scope_from("10.1.2.3"))
    assert not comes_through_trusted_proxy(scope_from("192.0.2.1"))
    assert not comes_through_trusted_proxy(scope_from(None))


@pytest.mark.parametrize(
    ("address", "networks", "is_in"),
    [
        ("192.0.2.1", [], True),
        (None, [], True),
        (None, ["0.0.0.0/0"], False),
        ("192.0.2.1", ["10.0.0.0/8", "192.0.2.0/24"], True),
        ("192.0.3.1", ["10.0.0.0/8", "192.0.2.0/24"], False),
        ("2001:db8::1", ["0.0.0.0/0"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
    ],
)
def test_networks_hold_addresses_of_their_own_kind(
    address: str | None, networks: list[str], is_in: bool
) -> None:
    assert is_from_networks(address, networks) is is_in


async def test_current_address_is_that_of_the_request_and_ends_with_it() -> None:
    seen: list[str | None] = []

    async def application(*_: Any) -> None:
        seen.append(current_address())

    await RequestContext(application)(scope_from("192.0.2.1"), None, None)

    assert (seen, current_address()) == (["192.0.2.1"], None)


def test_setting_takes_addresses_and_networks_and_refuses_other_words() -> None:
    read = Environment({"P": "127.0.0.1, 10.1.0.0/8,fd00::/8"}).networks("P")
    assert read == ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]

    with pytest.raises(ImproperlyConfigured, match="P: 'nginx' cannot be used"):
        Environment({"P": "nginx"}).networks("P")
