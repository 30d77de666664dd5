"""What a 401 tells about how to sign in: the header WWW-Authenticate.

Below /v2 it names the token endpoint and the scope that the request needs (contract/registry.md
1.6, 2.4, 3); real Ollamas only follow a realm on the host and port that they have asked. Knows
URLs and methods, no view and no user.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from django.conf import settings
from django.http import HttpRequest

TOKEN_PATH: Final = "/v2/token"  # noqa: S105 - a path
PLAIN: Final = 'Bearer realm="ollamasite"'
_ROOT: Final = "/v2/"
_CATALOG: Final = "/v2/_catalog"
# Codes of errors that a client is told about (RFC 6750, 3.1).
_TOLD: Final = frozenset({"invalid_token", "insufficient_scope"})
_ACTIONS: Final = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}
_CHANGING: Final = "pull,push"
# What is written into a header is what cannot end its quotes.
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,300}")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,254}")
_BELOW_REPOSITORY: Final = re.compile(
    r"/v2/(?P<name>.+)/(?:manifests/|blobs/|tags/list|referrers/)[^/]*(?:/[^/]*)?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for. `scheme` is the client's own, as far as a trusted proxy tells it.

    `path` is decoded, `query` is as it was sent.
    """

    scheme: str
    host: str
    method: str
    path: str
    query: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, as the client has written them."""
        return f"{self.scheme}://{self.host}"

    @property
    def url(self) -> str:
        """The whole URL."""
        return f"{self.origin}{self.path}" + (f"?{self.query}" if self.query else "")


def asked_of_request(request: HttpRequest) -> Asked:
    """Return what a Django request asks for."""
    return Asked(
        scheme=request.scheme or "http",
        host=request.META.get("HTTP_HOST", ""),
        method=request.method or "",
        path=request.path_info,
        query=request.META.get("QUERY_STRING", ""),
    )


def asked_of_scope(scope: Mapping[str, Any]) -> Asked:
    """Return what an ASGI scope asks for, as `asked_of_request` does."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    scheme: str = scope.get("scheme", "http")
    if settings.SECURE_PROXY_SSL_HEADER:
        name, secure = settings.SECURE_PROXY_SSL_HEADER
        told = headers.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode(), "")
        if told:
            scheme = "https" if told.split(",")[0].strip() == secure else "http"
    return Asked(
        scheme=scheme,
        host=headers.get(b"host", ""),
        method=scope["method"],
        path=scope["path"],
        query=scope.get("query_string", b"").decode("latin-1"),
    )


def is_own_address(host: str, reached_at: str) -> bool:
    """Whether a Host header is for certain this site, and not only perhaps, as for `guard`.

    Whoever signs the URL of another server must not be known here by it: that server could send
    the signature on, with the Host that was signed. `reached_at`: the address of this machine that
    the connection came to.
    """
    found = _HOST_AND_PORT.fullmatch(host)
    if found is None:
        return False
    name = found[1].strip("[]").rstrip(".").lower()
    own = socket.gethostname().lower()
    if name in {"localhost", own, f"{own}.local", *map(str.lower, settings.SITE_HOSTS)}:
        return True
    try:
        address = ipaddress.ip_address(name)
        return address.is_loopback or address == ipaddress.ip_address(reached_at)
    except ValueError:
        return False


def challenge(asked: Asked, error_code: str = "") -> str:
    """Return the value of WWW-Authenticate. `error_code` is that of the ServiceError."""
    is_registry = asked.path.startswith(_ROOT) or asked.path == _ROOT.rstrip("/")
    if not is_registry or asked.path == TOKEN_PATH or not _HOST.fullmatch(asked.host):
        return PLAIN
    parts = {"realm": f"{asked.origin}{TOKEN_PATH}", "service": asked.host}
    if scope := _scope_of(asked):
        parts["scope"] = scope
    if error_code in _TOLD:
        parts["error"] = error_code
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in parts.items())


def _scope_of(asked: Asked) -> str:
    """Return what a token for the request must be for; empty where any will do."""
    if asked.path == _CATALOG:
        return "registry:catalog:*"
    match = _BELOW_REPOSITORY.fullmatch(asked.path)
    if match is None or not _REPOSITORY.fullmatch(match["name"]):
        return ""
    scope = f"repository:{match['name']}:{_ACTIONS.get(asked.method, _CHANGING)}"
    source = _mounted_from(asked)
    return f"{scope} repository:{source}:pull" if source else scope


def _mounted_from(asked: Asked) -> str:
    if asked.method != "POST" or "mount=" not in asked.query:
        return ""
    source = parse_qs(asked.query, max_num_fields=20).get("from", [""])[0]
    return source if _REPOSITORY.fullmatch(source) else ""
