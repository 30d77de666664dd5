"""HTTP to an engine elsewhere: one POST, sent again where the engine is busy, within its times.

Goes through `ollamasite.outbound`, which connects to nothing but the engine's own host, never to a
link-local or metadata address, and follows no redirect. Knows no request and no event.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from inference.engine.upstream import failures
from inference.engine.upstream.event_stream import EventStream, EventTooLarge
from inference.engine.upstream.failures import UpstreamError
from inference.messages import UpstreamRef
from ollamasite.errors import (
    OutboundFailed,
    OutboundRefused,
    OutboundTimedOut,
    OutboundTooLarge,
)
from ollamasite.outbound.client import Answer, Caps, OutboundClient
from ollamasite.outbound.hosts import AllowedHosts
from ollamasite.outbound.urls import parse_url

logger = logging.getLogger(__name__)

_MOST_ANSWER_BYTES: Final = 256 * 1024 * 1024
_MOST_ERROR_BYTES: Final = 64 * 1024
_ERROR_S: Final = 10.0
_OK: Final = 200
_BUSY: Final = frozenset({429, 503})
MOST_TRIES: Final = 3
_WAIT_S: Final = 1.0  # where the engine does not say how long
_MOST_WAIT_S: Final = 10.0

_Read = Callable[[Answer, asyncio.Timeout], Awaitable[None]]


class _Busy(Exception):
    """The engine takes nobody now; it may in `wait_s`."""

    def __init__(self, wait_s: float, error: UpstreamError) -> None:
        super().__init__(error.message)
        self.wait_s = wait_s
        self.error = error


class Asker:
    """Sends requests to engines. One for a process and event loop."""

    def __init__(self) -> None:
        self._clients: dict[str, OutboundClient] = {}
        self._open = AsyncExitStack()

    async def close(self) -> None:
        """End every connection."""
        await self._open.aclose()

    async def stream(
        self, upstream: UpstreamRef, route: str, body: bytes, take: Callable[[bytes], bool]
    ) -> None:
        """Send a request and hand over the data of each event as it comes.

        Ends with the answer, or when `take` returns False. Raises UpstreamError.
        """
        events = EventStream()

        async def read(answer: Answer, limit: asyncio.Timeout) -> None:
            loop = asyncio.get_running_loop()
            async for chunk in answer.chunks():
                for data in events.feed(chunk):
                    limit.reschedule(loop.time() + upstream.silence_s)
                    if not take(data):
                        return
            for data in events.close():
                take(data)
            if not events.count:
                what = "answered with something else than a stream of events"
                raise failures.failed(upstream, what)

        await self._tried(upstream, route, body, read)

    async def read(self, upstream: UpstreamRef, route: str, body: bytes) -> bytes:
        """Send a request and return the whole answer. Raises UpstreamError."""
        parts: list[bytes] = []

        async def read(answer: Answer, limit: asyncio.Timeout) -> None:
            del limit  # all of it may take as long as a stream's beginning
            parts.extend([chunk async for chunk in answer.chunks()])

        await self._tried(upstream, route, body, read)
        return b"".join(parts)

    async def _tried(self, upstream: UpstreamRef, route: str, body: bytes, read: _Read) -> None:
        for tries_left in range(MOST_TRIES - 1, -1, -1):
            try:
                await _Once(upstream, self._client(upstream)).ask(route, body, read)
            except _Busy as busy:
                if not tries_left:
                    raise busy.error from busy
                await asyncio.sleep(busy.wait_s)
            else:
                return

    def _client(self, upstream: UpstreamRef) -> OutboundClient:
        target = parse_url(upstream.url)
        origin = f"{target.scheme}://{target.authority}"
        if (client := self._clients.get(origin)) is None:
            hosts = AllowedHosts.parse([origin], private=[origin])
            client = OutboundClient(hosts, most_connections=None)
            self._open.push_async_exit(client)
            self._clients[origin] = client
        return client


class _Once:
    """One try."""

    def __init__(self, upstream: UpstreamRef, client: OutboundClient) -> None:
        self._upstream = upstream
        self._client = client
        self._has_answered = False

    async def ask(self, route: str, body: bytes, read: _Read) -> None:
        """Send it and read the answer. Raises UpstreamError and _Busy."""
        limit = asyncio.timeout(self._upstream.connect_s + self._upstream.first_s)
        try:
            async with limit:
                await self._exchange(route, body, read, limit)
        except (TimeoutError, OutboundTimedOut) as error:
            raise self._too_slow() from error
        except EventTooLarge as error:
            raise failures.failed(self._upstream, "sent a piece that is too large") from error
        except OutboundTooLarge as error:
            raise failures.failed(self._upstream, "sent an answer that is too large") from error
        except OutboundRefused as error:
            logger.warning("%s: %s", self._upstream.name, error.message)
            what = "has an address that is never asked"
            raise failures.failed(self._upstream, what) from error
        except OutboundFailed as error:
            logger.warning("%s: %s", self._upstream.name, error.message)
            raise self._cut() from error

    async def _exchange(self, route: str, body: bytes, read: _Read, limit: asyncio.Timeout) -> None:
        upstream = self._upstream
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream, */*",
            # One that is kept may be closed by the engine at any time, just as it is used again.
            "connection": "close",
        }
        if upstream.key:
            headers["authorization"] = f"Bearer {upstream.key}"
        caps = Caps(
            body_bytes=_MOST_ANSWER_BYTES,
            connect_s=upstream.connect_s,
            read_s=max(upstream.first_s, upstream.silence_s),
            total_s=upstream.total_s,
        )
        url = f"{upstream.url}{route}"
        sending = self._client.stream(
            "POST", url, headers=headers, content=body, caps=caps, follow=False
        )
        async with sending as answer:
            if answer.status != _OK:
                raise await self._refusal(answer)
            self._has_answered = True
            await read(answer, limit)

    async def _refusal(self, answer: Answer) -> Exception:
        """Return what another status than 200 means."""
        said = bytearray()
        try:
            async with asyncio.timeout(_ERROR_S):
                async for chunk in answer.chunks():
                    said += chunk
                    if len(said) > _MOST_ERROR_BYTES:
                        break
        except (TimeoutError, OutboundFailed):
            said.clear()
        error = failures.of_status(self._upstream, answer.status, bytes(said))
        if answer.status not in _BUSY:
            return error
        asked = answer.headers.get("retry-after", "")
        wait_s = float(asked) if asked.isdecimal() and len(asked) < 6 else _WAIT_S  # noqa: PLR2004
        # A later time than one waits for here is a no.
        return _Busy(wait_s, error) if wait_s <= _MOST_WAIT_S else error

    def _too_slow(self) -> UpstreamError:
        if self._has_answered:
            return failures.failed(self._upstream, "was silent for too long")
        return failures.unreachable(self._upstream, "does not answer")

    def _cut(self) -> UpstreamError:
        if self._has_answered:
            return failures.failed(self._upstream, "ended its answer before it was complete")
        return failures.unreachable(self._upstream, "does not answer")
