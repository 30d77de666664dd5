"""The door of a node that is reached over the network: TLS, and nobody in who has no secret.

Before its secret is known to be right, a connection may hold little memory, little time and one of
few places. Whoever is let in is handed on with its Hello. Knows no other message.
"""

import asyncio
import contextlib
import hmac
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from inference.frames import FrameDecoder, ProtocolError
from inference.messages import Hello, Wire

logger = logging.getLogger(__name__)

# Of whoever has not shown a secret yet.
MOST_STRANGERS: Final = 32
MOST_OF_ONE: Final = 8  # address: nobody alone keeps web processes out
GREETING_S: Final = 10.0
_GREETING_BYTES: Final = 4096
_BUFFER_BYTES: Final = 1024 * 1024
# A web process says something every five seconds. Its requests end when it has been gone so long.
_SILENCE_S: Final = 24

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Guest = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Sequence[Wire]], Awaitable[None]]


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=MOST_STRANGERS)
    listener.settimeout(0)
    return listener


class Door:
    """Accepts connections and hands on those that know the secret."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext, guest: Guest) -> None:
        self.secret = ""  # empty: nobody is let in
        self._listener = listener
        self._context = context
        self._guest = guest
        self._strangers: Counter[str] = Counter()  # by address
        self._greetings: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Let nobody in any longer; who is inside stays."""
        self._accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._accepting
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, (host, *_) = await loop.sock_accept(self._listener)
            except OSError as error:  # out of file descriptors, or it has left again
                logger.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            if not self._has_place_for(host):
                accepted.close()
                continue
            self._strangers[host] += 1
            task = asyncio.create_task(self._receive(accepted, host))
            self._greetings.add(task)
            task.add_done_callback(self._greetings.discard)

    def _has_place_for(self, host: str) -> bool:
        is_full = self._strangers.total() >= MOST_STRANGERS
        return not is_full and self._strangers[host] < MOST_OF_ONE

    async def _receive(self, accepted: socket.socket, host: str) -> None:
        try:
            try:
                async with asyncio.timeout(GREETING_S):
                    (reader, writer), first = await self._greet(accepted)
            finally:
                self._strangers -= Counter((host,))  # and forget it at 0
        except (OSError, TimeoutError, ProtocolError) as error:
            # TLS errors are OSErrors. Strangers are usual in a network: no line for each of them.
            logger.debug("a connection was refused: %s", error)
            return
        await self._guest(reader, writer, first)

    async def _greet(self, accepted: socket.socket) -> tuple[Streams, list[Wire]]:
        reader, writer = await self._secured(accepted)
        try:
            first = await _first_words(reader)
            self._check(first)
        except BaseException:
            writer.transport.abort()
            raise
        return (reader, writer), first

    def _check(self, first: Sequence[Wire]) -> None:
        """Raise ProtocolError unless there is one Hello, with the secret."""
        hello = first[0] if len(first) == 1 else None
        shown = hello.secret if isinstance(hello, Hello) else ""
        is_right = hmac.compare_digest(shown.encode(), self.secret.encode())
        if not self.secret or not is_right:
            logger.warning("a connection was refused: it does not know this node's secret")
            raise ProtocolError("wrong secret")

    async def _secured(self, accepted: socket.socket) -> Streams:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_BUFFER_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            _look_after(accepted)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=GREETING_S,
            )
        except BaseException:
            accepted.close()
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _look_after(accepted: socket.socket) -> None:
    """Have a web process be noticed whose machine or network is gone without a word."""
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, _SILENCE_S // 2),
        (socket.TCP_KEEPINTVL, _SILENCE_S // 8),
        (socket.TCP_KEEPCNT, 4),
        (socket.TCP_USER_TIMEOUT, _SILENCE_S * 1000),  # of what was sent and not received
    ):
        accepted.setsockopt(socket.IPPROTO_TCP, option, value)


async def _first_words(reader: asyncio.StreamReader) -> list[Wire]:
    """Return the first message; nothing, where it left without one. Raises ProtocolError."""
    decoder: FrameDecoder[Wire] = FrameDecoder(Hello, most_bytes=_GREETING_BYTES)
    while data := await reader.read(_GREETING_BYTES):
        if first := decoder.feed(data):
            return first
    return []
