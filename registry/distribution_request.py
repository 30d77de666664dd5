"""A request for a file of a repository, read from an ASGI scope: which place, file and URL.

Places: contract/registry.md 2.1. Text only; knows nothing of who may do what, of files and rows.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from ollamasite.challenges import asked_of_scope
from ollamasite.errors import BadRequest
from registry.digest import Digest
from registry.errors import InvalidDigest

# A model may be called `blobs`: what follows the word decides.
_PATH: Final = re.compile(r"/v2/(.+)/blobs/(?:(uploads/?)|uploads/([^/]+)|([^/]+))")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_MAX_DIGITS: Final = 19
_MAX_FIELDS: Final = 20


class Place(enum.Enum):
    """What a path names: its row in the URLconf, and the methods it knows."""

    BLOB = ("v2/<path:name>/blobs/<str:digest>", "GET", "HEAD", "DELETE")
    UPLOADS = ("v2/<path:name>/blobs/uploads/", "POST")
    SESSION = ("v2/<path:name>/blobs/uploads/<str:session>", "GET", "PATCH", "PUT", "DELETE")

    def __init__(self, route: str, *methods: str) -> None:
        self.route = route
        self.methods = methods


@dataclass(frozen=True, slots=True)
class BlobRequest:
    """One request. `name` and `last` (digest or session) are as they stand in the path."""

    scope: Any
    place: Place
    name: str
    last: str
    headers: Mapping[str, str]
    query: Mapping[str, str]

    @classmethod
    def of(cls, scope: Any) -> "BlobRequest":
        """Read the scope of a request of which `is_blob_request` holds. Raises BadRequest."""
        place, name, last = _find(scope["path"]) or (Place.BLOB, "", "")
        pairs = ((key.decode("latin-1"), text.decode("latin-1")) for key, text in scope["headers"])
        return cls(scope, place, name, last, dict(pairs), _query_of(scope))

    @property
    def method(self) -> str:
        """The method in capitals."""
        return str(self.scope["method"])

    @property
    def length(self) -> int | None:
        """How many bytes of body will come, where that is told."""
        text = self.headers.get("content-length", "")
        is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        return int(text) if is_number else None

    @property
    def has_body(self) -> bool:
        """Whether at least one byte may come."""
        return "transfer-encoding" in self.headers or bool(self.length)

    def url(self, tail: str) -> str:
        """Return the absolute URL of `/v2/<name>/blobs/<tail>` on this site.

        A real Ollama follows no relative one (contract/registry.md 0.4).
        """
        return f"{asked_of_scope(self.scope).origin}/v2/{self.name}/blobs/{tail}"


def parse_digest(text: str | None) -> Digest:
    """Parse a digest of the path or the query: `sha256:` only. Raises InvalidDigest."""
    found = _DIGEST.fullmatch(text or "")
    if found is None:
        error = InvalidDigest("a digest is sha256: and 64 lower-case hex digits")
        error.detail = text
        raise error
    return Digest(found[1])


def is_blob_request(scope: Any) -> bool:
    """Whether a request goes beside Django. Its view answers methods that a place does not know."""
    found = _find(scope["path"])
    return found is not None and scope["method"] in found[0].methods


def _find(path: str) -> tuple[Place, str, str] | None:
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    name, uploads, session, digest = found.groups()
    if uploads is not None:
        return Place.UPLOADS, name, ""
    if session is not None:
        return Place.SESSION, name, session
    return Place.BLOB, name, digest


def _query_of(scope: Any) -> dict[str, str]:
    text = scope.get("query_string", b"").decode("latin-1")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise BadRequest("the query has too many parts") from error
