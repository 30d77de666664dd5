"""How `ollamasite serve` asks its own web process whether it answers.

A few lines of HTTP/1.0 (RFC 1945) instead of a client library. Knows two paths and no key.
"""

import asyncio
import ipaddress
import logging
import re
from http import HTTPStatus
from typing import Final

logger = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.2
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class SelfProbe:
    """Reaches the site that listens on `host` and `port` from the same machine."""

    def __init__(self, host: str, port: int) -> None:
        self._host = _reachable(host)
        self._port = port

    @property
    def url(self) -> str:
        """Where the site is, for people on this machine."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def answers(self) -> bool:
        """Whether the web process answers at all."""
        status, _ = await self._get("/healthz")
        return status == HTTPStatus.OK

    async def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until a request would succeed; say in the log what is missing if it never does."""
        body = b""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    status, body = await self._get("/readyz")
                    if status == HTTPStatus.OK:
                        return True
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            logger.warning("not ready after %.0f s: %s", timeout_s, body.decode(errors="replace"))
        return False

    async def _get(self, path: str) -> tuple[int | None, bytes]:
        """Return status and body of an answer; the status is None where there is no answer."""
        # As an old client asks: the answer is not chunked and the connection is closed after it.
        request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(request.encode())
                    answer = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None, b""
        head, _, body = answer.partition(b"\r\n\r\n")
        status = _STATUS_LINE.match(head)
        return (int(status[1]) if status else None), body


def _reachable(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host or "127.0.0.1"
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004 - IP's own numbers
