"""Every way to say who one is, as a request that carries it.

    holder = Holder(alice, KeyRules(scopes=(Scope.READ,)))
    path, headers = holder.present(Way.BASIC, "GET", "/api/tags")

Knows how credentials are sent, and no route.
"""

import base64
import enum
from collections.abc import Mapping
from typing import Final

from django.test import Client

from models_app.client_keys import add_client_key
from models_app.keys import KeyRules, create_key
from models_app.models import User
from tests.fakes.ollama_key import OllamaKey

CSRF_TOKEN: Final = "a" * 32
ORIGIN: Final = "http://localhost:11434"

Headers = Mapping[str, str]


class Way(enum.Enum):
    """How a credential is presented."""

    BEARER = "bearer"
    X_API_KEY = "x-api-key"
    BASIC = "basic"
    BARE = "authorization without a scheme"
    SIGNATURE = "signature"
    SESSION = "session"


# The same key, so the same answer to everything.
KEY_WAYS: Final = (Way.BEARER, Way.X_API_KEY, Way.BASIC, Way.BARE)
# Those that nothing limits: they reach as far as a key without rules.
WHOLE_WAYS: Final = (Way.SIGNATURE, Way.SESSION)


def key_headers(way: Way, secret: str) -> dict[str, str]:
    """Return the headers that carry a key in one of KEY_WAYS; `secret` may be any text."""
    basic = base64.b64encode(f"anybody:{secret}".encode()).decode()
    return {
        Way.BEARER: {"authorization": f"Bearer {secret}"},
        Way.X_API_KEY: {"x-api-key": secret},
        Way.BASIC: {"authorization": f"Basic {basic}"},
        Way.BARE: {"authorization": secret},
    }[way]


class Holder:
    """A user with one credential of each kind. Makes rows."""

    def __init__(self, user: User, rules: KeyRules | None = None) -> None:
        self.user = user
        self.key, self.secret = create_key(user, "held", rules or KeyRules())
        self.signer = OllamaKey()
        self.client_key = add_client_key(user, self.signer.line)
        self.browser = Client()
        self.browser.force_login(user)

    @property
    def cookies(self) -> str:
        """The session's cookie, with the one that belongs to the CSRF token."""
        session = self.browser.cookies["ollamasite_session"].value
        return f"ollamasite_session={session}; csrftoken={CSRF_TOKEN}"

    def present(self, way: Way, method: str, path: str) -> tuple[str, dict[str, str]]:
        """Return the path and the headers of a request. Signatures need a path without a query."""
        if way is Way.SIGNATURE:
            signed, authorization = self.signer.request(method, path)
            return signed, {"authorization": authorization}
        if way is Way.SESSION:
            return path, {"cookie": self.cookies, "x-csrftoken": CSRF_TOKEN}
        return path, key_headers(way, self.secret)

    def socket_headers(self, way: Way) -> tuple[tuple[bytes, bytes], ...]:
        """Return the headers that open a WebSocket; nobody signs one."""
        if way is Way.SESSION:
            found: Headers = {"cookie": self.cookies, "origin": ORIGIN}
        else:
            found = key_headers(way, self.secret)
        return tuple((name.encode(), text.encode()) for name, text in found.items())
