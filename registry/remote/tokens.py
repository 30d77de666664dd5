"""How this site proves to a registry who it is: one Bearer flow, or Basic.

contract/registry.md 1.6 and 2.4; RFC 7235 for challenges. A credential is sent to the registry's
own origin alone, and a token to the registry it is for. Sends nothing itself.
"""

import base64
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from django.conf import settings

from models_app.permissions import Principal, may_write_library
from registry.errors import RegistryFailed
from registry.remote import site_key
from registry.remote.reference import Origin, is_meant_plainly, origin_of

MAX_TOKEN_BYTES: Final = 64 * 1024
_NONCE_BYTES: Final = 16
_WORD: Final = re.compile(
    r'(?P<name>[A-Za-z0-9_-]+)(?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]*)))?'
)
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
Challenges = Mapping[str, Mapping[str, str]]  # scheme in lower case → its parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What may be shown to one registry. At most one of the two is used, the login first."""

    login: tuple[str, str] | None = field(default=None, repr=False)  # user, password
    may_sign: bool = False  # by the site's own key

    @classmethod
    def for_registry(
        cls, origin: Origin, principal: Principal | None, *, username: str = "", password: str = ""
    ) -> "Credentials":
        """Return what a principal, or the site itself (None), shows to a registry.

        What the site is known by is for those who may write its library: others would reach models
        that they have no right to. A password of the site goes over plain http only where the
        site's list says so, and not because a caller asks for it (`insecure`).
        """
        if username or password:
            return cls(login=(username, password))
        if principal is not None and not may_write_library(principal):
            return cls()
        configured = settings.REGISTRY_CREDENTIALS.get(origin.authority)
        if configured is not None and (origin.scheme == "https" or is_meant_plainly(origin)):
            user, _, secret = configured.partition(":")
            return cls(login=(user, secret))
        return cls(may_sign=True)

    @property
    def shown(self) -> str:
        """What was shown, for those who are told that it was not enough."""
        if self.login is not None:
            return f"the user name '{self.login[0]}' was shown, with a password"
        return "this site's own key was shown" if self.may_sign else "no user name was given"

    @property
    def basic(self) -> str | None:
        """The Authorization header of the login."""
        if self.login is None:
            return None
        return "Basic " + base64.b64encode(":".join(self.login).encode()).decode()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The GET by which a token is asked for."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


def parse_challenges(header: str) -> Challenges:
    """Read a WWW-Authenticate header: quoted and bare values, several schemes."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for word in _WORD.finditer(header):
        quoted, bare = word["quoted"], word["bare"]
        if quoted is None and bare is None:
            current = found.setdefault(word["name"].lower(), {})
        else:
            value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            current.setdefault(word["name"].lower(), value)
    return found


def token_request(
    challenge: Mapping[str, str], origin: Origin, credentials: Credentials
) -> TokenRequest:
    """Return the request that a Bearer challenge asks for.

    Raises RegistryFailed where the realm is not at the registry itself: nothing is sent there.
    """
    realm = challenge.get("realm", "")
    asked = origin_of(realm)
    if asked != origin:
        shown = urlsplit(realm).netloc if asked else realm
        raise RegistryFailed(
            f'realm host "{shown[:200]}" does not match original host "{origin.authority}"'
        )
    parts = urlsplit(realm)
    query = [*parse_qsl(parts.query, keep_blank_values=True)]
    if "service" in challenge:
        query.append(("service", challenge["service"]))
    query += [("scope", scope) for scope in challenge.get("scope", "").split()]
    nonce = base64.urlsafe_b64encode(secrets.token_bytes(_NONCE_BYTES)).decode().rstrip("=")
    query += [("ts", str(int(time.time()))), ("nonce", nonce)]
    text = urlencode(sorted(query, key=lambda pair: pair[0]))
    url = urlunsplit((origin.scheme, origin.authority, parts.path or "/", text, ""))
    return TokenRequest(url, _headers(url, credentials))


def parse_token(body: bytes) -> str:
    """Read the answer to a token request. Raises RegistryFailed."""
    try:
        answer = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RegistryFailed("the registry's token answer is not JSON") from error
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not _VISIBLE.fullmatch(token):
        raise RegistryFailed("the registry's token answer has no token")
    return token


def _headers(url: str, credentials: Credentials) -> dict[str, str]:
    if credentials.basic is not None:
        return {"authorization": credentials.basic}
    return {"authorization": site_key.sign_get(url)} if credentials.may_sign else {}
