"""From where a request comes: the address of the client, also behind trusted proxies.

`X-Forwarded-For` is read from the right, past the proxies of OLLAMASITE_TRUSTED_PROXIES alone: what
stands further left, anybody may have written (RFC 7239, 8.1). Without that setting the header is
not looked at. Knows no user and no route.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from functools import lru_cache
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# More proxies than any request passes.
_MAX_HOPS: Final = 32
_current: ContextVar[str | None] = ContextVar("ollamasite_client_address", default=None)


def current_address() -> str | None:
    """Return the client's address of the request that is being answered; None outside of any."""
    return _current.get()


def enter(scope: Mapping[str, Any]) -> Token[str | None]:
    """Make a scope's client the current one, until `leave`."""
    return _current.set(address_of_scope(scope))


def leave(token: Token[str | None]) -> None:
    """End what `enter` has begun."""
    _current.reset(token)


def address_of_scope(scope: Mapping[str, Any]) -> str | None:
    """Return the client's address of an ASGI scope; None where the server does not tell it."""
    client = scope.get("client")
    headers = scope.get("headers", ())
    forwarded = (bytes(value).decode("latin-1") for key, value in headers if key == _HEADER)
    return _client_of(str(client[0]) if client else "", forwarded)


def address_of_request(request: HttpRequest) -> str | None:
    """Return the client's address of a Django request."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    return _client_of(request.META.get("REMOTE_ADDR") or "", [forwarded] if forwarded else [])


def comes_through_trusted_proxy(scope: Mapping[str, Any]) -> bool:
    """Whether a trusted proxy has sent the request, so that its forwarding headers hold."""
    client = scope.get("client")
    peer = parse_address(str(client[0])) if client else None
    return peer is not None and _is_trusted(peer)


def parse_address(text: str) -> Address | None:
    """Read an address as servers and proxies write it, with a port or in brackets, or None.

    An IPv4 address in IPv6's clothes (`::ffff:192.0.2.1`) is the IPv4 address.
    """
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return found.ipv4_mapped or found
    return found


def is_from_networks(address: str | None, networks: Iterable[str]) -> bool:
    """Whether an address is in one of the networks, given as CIDR blocks. None at all: always."""
    blocks = _networks(tuple(networks))
    if not blocks:
        return True
    client = parse_address(address or "")
    return client is not None and any(client in block for block in blocks)


_HEADER: Final = b"x-forwarded-for"


def _client_of(peer: str, forwarded: Iterable[str]) -> str | None:
    address = parse_address(peer)
    if address is None:
        return None
    if settings.TRUSTED_PROXIES and _is_trusted(address):
        hops = ",".join(forwarded).split(",")[-_MAX_HOPS:]
        for hop in reversed(hops):
            told = parse_address(hop)
            if told is None:
                break
            address = told
            if not _is_trusted(told):
                break
    return str(address)


def _is_trusted(address: Address) -> bool:
    return any(address in network for network in _networks(tuple(settings.TRUSTED_PROXIES)))


@lru_cache(maxsize=4096)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)
