"""The site that a node belongs to: joins it, reads files of its store. Blocking; for threads.

Nothing else is asked for, no other host and no redirect is followed, and no answer is read further
than it may be long. Knows nothing of what the files are for.
"""

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_TIMEOUT_S: Final = 30.0
_MOST_ANSWER_BYTES: Final = 64 * 1024
_OK: Final = 200
_PARTIAL: Final = 206
_UNAUTHORIZED: Final = 401


class SiteError(Exception):
    """The site could not be asked, or refuses; the text says why."""


class TokenRefused(SiteError):
    """The site does not know the token (any longer)."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What a node is told when it has joined; `is_draining`: it shall become empty."""

    name: str
    secret: str = field(repr=False)
    is_draining: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that the site has begun to send. `start`: the first byte that comes."""

    response: http.client.HTTPResponse
    start: int
    size_bytes: int  # of the whole file

    def pieces(self, most_bytes: int) -> Iterator[bytes]:
        """Yield what comes. Raises SiteError where the connection fails."""
        while True:
            try:
                piece = self.response.read(most_bytes)
            except (OSError, http.client.HTTPException) as error:
                raise SiteError(f"the transfer was cut: {error}") from error
            if not piece:
                return
            yield piece


class Site:
    """One site, by http or https.

    `authorities`: a file of certificates to believe in place of the system's.
    """

    def __init__(self, url: str, token: str, authorities: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SiteError(f"{url} is no address of a site: https://HOST[:PORT]")
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._context = ssl.create_default_context(cafile=authorities)

    def join(self, told: Mapping[str, Any]) -> Joined:
        """Tell where this node is. Raises SiteError."""
        body = json.dumps(told).encode()
        headers = {"Content-Type": "application/json"}
        with self._asked("POST", "/api/nodes/join", headers, body) as response:
            data = _read(response)
            if response.status != _OK:
                raise _refusal(response.status, data)
        try:
            answer = json.loads(data)
            return Joined(
                name=str(answer["name"]),
                secret=str(answer["secret"]),
                is_draining=bool(answer.get("is_draining")),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SiteError("the site's answer makes no sense") from error

    def blob_size(self, digest: str) -> int:
        """Return how many bytes a file of the site's store has. Raises SiteError."""
        with self._asked("HEAD", f"/api/nodes/blobs/sha256:{digest}", {}) as response:
            length = response.getheader("Content-Length", "")
            if response.status != _OK or not length.isdigit():
                raise _refusal(response.status, b"")
            return int(length)

    @contextmanager
    def open_blob(self, digest: str, start: int) -> Iterator[Opened]:
        """Begin to read a file of the site's store, from a byte on. Raises SiteError."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._asked("GET", f"/api/nodes/blobs/sha256:{digest}", headers) as response:
            if response.status not in {_OK, _PARTIAL}:
                raise _refusal(response.status, _read(response))
            start = start if response.status == _PARTIAL else 0
            yield Opened(response, start, start + (response.length or 0))

    @contextmanager
    def _asked(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection()
        sent = {**headers, "Authorization": f"Bearer {self._token}", "Connection": "close"}
        try:
            try:
                connection.request(method, self._prefix + path, body=body, headers=sent)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise SiteError(f"the site cannot be reached: {error}") from error
            with response:  # it outlives its connection
                yield response
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=_TIMEOUT_S, context=self._context
        )


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_MOST_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise SiteError(f"the site's answer was cut: {error}") from error


def _refusal(status: int, data: bytes) -> SiteError:
    if status == _UNAUTHORIZED:
        return TokenRefused("the site does not know the join token: make a new one there")
    try:
        text = str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        text = ""
    return SiteError(f"the site answers {status}" + (f": {text[:500]}" if text else ""))
