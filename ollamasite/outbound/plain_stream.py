"""A connection without TLS, for `client`'s pool: large bodies go straight into a caller's buffer.

HTTP/1.1 parsers copy every byte a few times. So the head of an answer is handed over alone, and
whoever wants the body may read it past the parser. Knows no HTTP beyond where a head ends.
"""

import asyncio
import contextlib
import select
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Final, Self

import httpcore2

from ollamasite.socket_copies import FEW_BYTES, in_thread, receive

_HEAD_BYTES: Final = 64 * 1024
_HEAD_END: Final = b"\r\n\r\n"


class PlainStream(httpcore2.AsyncNetworkStream):
    """A connected socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._rest = b""  # what came with a head
        self._is_head = False  # a request has been sent, and the answer's head not yet read
        self.is_at_body = False  # all of the head has been read, and nothing else
        self._is_flowing = True  # fast enough to keep a thread busy that copies what comes

    @classmethod
    async def connect(
        cls,
        address: str,
        port: int,
        timeout_s: float | None,
        options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> Self:
        """Connect to an address. Raises httpcore2's ConnectError and ConnectTimeout."""
        is_new = ip_address(address).version == 6  # noqa: PLR2004 - IPv6
        made = socket.socket(socket.AF_INET6 if is_new else socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setblocking(False)  # noqa: FBT003 - the library's signature
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in options or ():
                made.setsockopt(*option)
            with _mapped(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                async with asyncio.timeout(timeout_s):
                    await asyncio.get_running_loop().sock_connect(made, (address, port))
        except BaseException:
            made.close()
            raise
        return cls(made)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - the library's signature
        """Return what has come: of an answer's beginning the head alone."""
        data, self._rest = self._rest, b""
        self.is_at_body = False
        if not data:
            size = _HEAD_BYTES if self._is_head else max_bytes
            with _mapped(httpcore2.ReadTimeout, httpcore2.ReadError):
                async with asyncio.timeout(timeout):
                    data = await asyncio.get_running_loop().sock_recv(self._socket, size)
        if self._is_head:
            before, end, self._rest = data.partition(_HEAD_END)
            # A head that comes in two pieces may hide its end between them: then the parser sees
            # the body too, and nobody reads past it.
            self.is_at_body = bool(end)
            self._is_head = False
            return before + end
        return data

    async def read_into(self, buffer: memoryview, timeout_s: float | None) -> int:
        """Read the next bytes into a buffer; return how many, 0 at the end."""
        if self._rest:
            count = min(len(buffer), len(self._rest))
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            return count
        with _mapped(httpcore2.ReadTimeout, httpcore2.ReadError):
            if self._is_flowing and len(buffer) > FEW_BYTES:
                outcome = await in_thread(receive, self._socket.fileno(), buffer)
                self._is_flowing = outcome.is_whole
                if outcome.count or outcome.is_end:
                    return outcome.count
            async with asyncio.timeout(timeout_s):
                count = await asyncio.get_running_loop().sock_recv_into(self._socket, buffer)
            self._is_flowing = count >= FEW_BYTES
            return count

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the library's signature
        """Send all of it."""
        self._is_head = True
        with _mapped(httpcore2.WriteTimeout, httpcore2.WriteError):
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_sendall(self._socket, buffer)

    async def aclose(self) -> None:
        """Close the connection."""
        self._socket.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: encrypted connections are made in another way."""
        raise httpcore2.UnsupportedProtocol("this connection is plain http")

    def get_extra_info(self, info: str) -> Any:
        """Return what the pool asks for: whether an idle connection has something to read."""
        if info == "is_readable":
            with contextlib.suppress(ValueError, OSError):
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                return bool(self._rest) or bool(poll.poll(0))
            return True  # closed
        return self._socket if info == "socket" else None


@contextmanager
def _mapped(timed_out: type[Exception], failed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timed_out from error
    except OSError as error:
        raise failed(str(error)) from error
