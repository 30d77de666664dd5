"""What a node answers to who has no work for it: who it is, its clock, what has ended there.

For `ollamasite check`, which wants to know why a node does not answer, and for the ledger, whose
threads have no event loop of their own: a connection for each question. Knows no Django.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from inference.dialling import Streams, Where, dial, is_called, secret_for
from inference.frames import FrameDecoder, ProtocolError, encode
from inference.messages import (
    PROTOCOL_VERSION,
    Device,
    Ends,
    FromNode,
    GetEnds,
    Hello,
    NodeReport,
    Usage,
    Welcome,
    Wire,
)

_READ_BYTES: Final = 64 * 1024
_GOODBYE_S: Final = 1.0


class NodeProblem(Exception):
    """No node that one could use; the message says why."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who has answered. `ahead_s`: its clock before ours, to within `doubt_s`; None: not told."""

    node: str
    ahead_s: float | None
    doubt_s: float


async def devices_of(where: Where, *, timeout_s: float) -> tuple[Device, ...]:
    """Return the GPUs on which a node runs models. Raises NodeProblem."""
    async with _talk(where, timeout_s) as talk:
        while True:
            message = await talk.hear()
            if isinstance(message, NodeReport):
                return message.devices


async def greet(where: Where, *, timeout_s: float) -> Greeting:
    """Shake hands with a node as a web process does. Raises NodeProblem."""
    async with _talk(where, timeout_s) as talk:
        return talk.greeting


async def find_ends(
    where: Where, request_ids: Collection[str], *, timeout_s: float
) -> dict[str, Usage]:
    """Return what those requests have used that have ended there. Raises NodeProblem."""
    async with _talk(where, timeout_s) as talk:
        await talk.send(GetEnds(request_id="ends", ended_ids=tuple(request_ids)))
        while True:
            message = await talk.hear()
            if isinstance(message, Ends):
                return message.usages


class _Talk:
    """A connection to a node that has been greeted."""

    def __init__(self, streams: Streams) -> None:
        self._reader, self._writer = streams
        self._decoder: FrameDecoder[Wire] = FrameDecoder(FromNode)
        self._heard: list[Wire] = []
        self.greeting = Greeting("", None, 0.0)

    async def begin(self, secret: str) -> None:
        """Say hello and hear who answers."""
        said_at = time.time()
        await self.send(Hello(protocol=PROTOCOL_VERSION, client="check", secret=secret))
        welcome = await self.hear()
        took_s = time.time() - said_at
        if not isinstance(welcome, Welcome):
            raise ProtocolError
        if welcome.protocol != PROTOCOL_VERSION:
            raise NodeProblem(
                f"it speaks version {welcome.protocol} of the protocol, this program version "
                f"{PROTOCOL_VERSION}: one of the two was not restarted after an upgrade"
            )
        # It has read its clock somewhere between: half of that time is how exactly it is known.
        ahead_s = welcome.at_ms / 1000 - (said_at + took_s / 2) if welcome.at_ms else None
        self.greeting = Greeting(welcome.node, ahead_s, took_s / 2)

    async def send(self, message: Wire) -> None:
        """Send a message."""
        self._writer.write(encode(message))
        await self._writer.drain()

    async def hear(self) -> Wire:
        """Return the next message."""
        while not self._heard:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise NodeProblem("it closed the connection")
            self._heard += self._decoder.feed(data)
        return self._heard.pop(0)

    async def end(self) -> None:
        """Close the connection, also to a node that does not answer."""
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._writer.wait_closed()
        self._writer.transport.abort()


@asynccontextmanager
async def _talk(where: Where, timeout_s: float) -> AsyncIterator[_Talk]:
    try:
        async with asyncio.timeout(timeout_s):
            talk = _Talk(await dial(where))
            try:
                await talk.begin(secret_for(where))
                if not is_called(where, talk.greeting.node):
                    raise NodeProblem(f"it calls itself {talk.greeting.node}")
                yield talk
            finally:
                await talk.end()
    except TimeoutError as error:
        raise NodeProblem(f"it did not answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise NodeProblem(error.strerror or str(error)) from error
    except ProtocolError as error:
        raise NodeProblem("it speaks another protocol") from error
