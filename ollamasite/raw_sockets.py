"""Large bodies past the HTTP server: straight from the socket, and files straight into it.

A parser and a transport copy every byte a few times and handle it in small pieces, which costs
more than all else that is done with a large file. So the protocol below, a uvicorn one, offers an
ASGI extension on connections without TLS: `passage_of` finds it. Heads, small bodies and chunked
ones stay with uvicorn. Knows no route.

A byte of one request must never be read as another's. Hence: a body is taken over only where its
length is told once and is all that delimits it; exactly so many bytes are read or passed over;
and what the transport brings in between ends the connection.
"""

import asyncio
import os
import weakref
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

from ollamasite import socket_copies
from ollamasite.socket_copies import Outcome, in_thread

_NAME: Final = "ollamasite.socket"
# Less than this is not worth the threads.
LEAST_BYTES: Final = 1024 * 1024
_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
_MAX_DIGITS: Final = 19


class LargeBodyProtocol(HttpToolsProtocol):
    """One connection. While `is_taken`, somebody else reads from its socket."""

    is_taken = False
    is_sending = False
    _body_bytes = 0  # of the message that is being parsed
    _passed_over_bytes = 0  # so many of the next ones belong to a body that nobody wants
    _waiting: asyncio.Future[None] | None = None

    def on_message_begin(self) -> None:
        """Count anew."""
        self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Offer the extension with the request."""
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        is_new = cycle is not None and cycle.scope is self.scope
        if cycle is not None and is_new and not is_ssl(self.transport):
            scope: Any = self.scope
            # A strong reference would keep each request until garbage is collected.
            scope.setdefault("extensions", {})[_NAME] = Passage(self, weakref.ref(cycle))

    def on_body(self, body: bytes) -> None:
        """Count what the parser has handed on."""
        self._body_bytes += len(body)
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, but for the rest of a body that was given up."""
        if self.is_taken:
            # Its place in the body is unknown: it cannot be used, and must not be parsed.
            self.transport.abort()
            return
        if self._passed_over_bytes:
            data = self._pass_over(data)
        if data:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; not in the middle of a file."""
        if self.is_sending:
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for the socket as well."""
        super().connection_lost(exc)
        self.wake()

    # ------------------------------------------------------------ for those below

    def left_bytes(self, cycle: RequestResponseCycle) -> int:
        """Return how much of a request's body uvicorn has not seen; 0 where nobody may take it."""
        is_at_body = self.cycle is cycle and cycle.more_body and not self.pipeline
        is_busy = self.is_taken or bool(self._passed_over_bytes) or cycle.response_started
        if not is_at_body or is_busy or cycle.disconnected or self.transport.is_closing():
            return 0
        if cycle.scope["method"] not in _METHODS or self.parser.should_upgrade():
            return 0
        names = [name for name, _ in self.headers]
        if names.count(b"content-length") != 1 or b"transfer-encoding" in names:
            return 0
        told = dict(self.headers)[b"content-length"]
        is_number = told.isdigit() and len(told) <= _MAX_DIGITS
        return max(0, int(told) - self._body_bytes) if is_number else 0

    def take(self, cycle: RequestResponseCycle) -> bytes:
        """Read nothing any more; return what has come of the body and nobody has seen."""
        self.is_taken = True
        self.flow.pause_reading()
        unseen, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()
        return unseen

    def give_back(self, cycle: RequestResponseCycle, left_bytes: int) -> None:
        """Go on reading, after so many bytes that still belong to the body."""
        self.is_taken = False
        if cycle.disconnected or self.transport.is_closing():
            return
        self._passed_over_bytes = left_bytes
        if not left_bytes:
            self._end_message()
        self.flow.resume_reading()

    def lose(self, cycle: RequestResponseCycle) -> None:
        """Note that nobody is at the other end any longer."""
        cycle.disconnected = True
        self.transport.close()

    async def ready(self, descriptor: int, *, to_write: bool, within_s: float) -> None:
        """Wait until a descriptor can be used, or the connection is lost. Raises TimeoutError."""
        add = self.loop.add_writer if to_write else self.loop.add_reader
        remove = self.loop.remove_writer if to_write else self.loop.remove_reader
        self._waiting = self.loop.create_future()
        add(descriptor, self.wake)
        try:
            async with asyncio.timeout(within_s):
                await self._waiting
        finally:
            remove(descriptor)
            self._waiting = None

    def wake(self) -> None:
        """End a wait for the socket."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def descriptor(self) -> int:
        """Return a descriptor of the socket that stays good when the transport closes its own."""
        return os.dup(self.transport.get_extra_info("socket").fileno())

    # ------------------------------------------------------------ the end of a body

    def _pass_over(self, data: bytes) -> bytes:
        """Return what comes after the body that was given up."""
        count = min(len(data), self._passed_over_bytes)
        self._passed_over_bytes -= count
        if not self._passed_over_bytes:
            self._end_message()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        return data[count:]

    def _end_message(self) -> None:
        """Parse from here on as at the beginning of a request."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_message_complete()


class Passage:
    """What one request may do past the server."""

    def __init__(
        self, protocol: LargeBodyProtocol, cycle: "weakref.ref[RequestResponseCycle]"
    ) -> None:
        self._protocol = protocol
        self._cycle = cycle

    def take_body(self) -> "TakenBody | None":
        """Take over the rest of the request's body, after the first event of it; None: not here.

        The caller releases it.
        """
        cycle = self._cycle()
        if cycle is None or self._protocol.left_bytes(cycle) < LEAST_BYTES:
            return None
        return TakenBody(self._protocol, cycle)

    async def send_file(self, file: int, start: int, count: int, *, idle_s: float) -> bool:
        """Send bytes of an open file as the next ones of an answer that has a length.

        False: the reader has left. Raises TimeoutError for one who takes nothing so long, EOFError
        where the file has fewer bytes.
        """
        protocol, cycle = self._protocol, self._cycle()
        if cycle is None or not _can_take(cycle, count):
            raise RuntimeError("this answer has no room for so many bytes")
        async with asyncio.timeout(idle_s):
            await _flushed(protocol)
        if cycle.disconnected or protocol.transport.is_closing():
            return False
        sending = _Sending(protocol, cycle, file)
        protocol.is_sending = True
        try:
            return await sending.send(start, count, idle_s)
        finally:
            protocol.is_sending = False
            sending.close()


class TakenBody:
    """The rest of a request's body, read from the socket."""

    def __init__(self, protocol: LargeBodyProtocol, cycle: RequestResponseCycle) -> None:
        self.left_bytes = protocol.left_bytes(cycle)
        self._protocol = protocol
        self._cycle = cycle
        self._descriptor = protocol.descriptor()
        self._is_flowing = True
        self.first = protocol.take(cycle)  # comes before what is read

    async def read(self, buffer: memoryview, *, within_s: float) -> int:
        """Put the next bytes into a buffer; return how many: 0 where none came in that time.

        Raises ConnectionError where the client has left.
        """
        room = buffer[: self.left_bytes]
        while not self._protocol.transport.is_closing():
            try:
                outcome = await self._once(room)
            except OSError:
                break
            if outcome.is_end:
                break
            if outcome.count:
                self.left_bytes -= outcome.count
                return outcome.count
            try:
                await self._protocol.ready(self._descriptor, to_write=False, within_s=within_s)
            except TimeoutError:
                return 0
        self._protocol.lose(self._cycle)
        raise ConnectionResetError

    def release(self) -> None:
        """Let the server go on with the connection."""
        os.close(self._descriptor)
        self._protocol.give_back(self._cycle, self.left_bytes)

    async def _once(self, room: memoryview) -> Outcome:
        # A thread for those alone who keep it busy: of a slow sender there is little to copy.
        if self._is_flowing:
            outcome = await in_thread(socket_copies.receive, self._descriptor, room)
            self._is_flowing = outcome.count == len(room)
        else:
            few = room[: socket_copies.FEW_BYTES]
            outcome = socket_copies.receive(self._descriptor, few, is_patient=False)
            self._is_flowing = outcome.count == socket_copies.FEW_BYTES
        return outcome


class _Sending:
    """A file on its way into a socket."""

    def __init__(self, protocol: LargeBodyProtocol, cycle: RequestResponseCycle, file: int) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._file = file
        self._descriptor = protocol.descriptor()

    async def send(self, start: int, count: int, idle_s: float) -> bool:
        protocol, place, end = self._protocol, start, start + count
        is_flowing = True
        while place < end:
            outcome = await in_thread(
                socket_copies.send, self._descriptor, self._file, place, end, is_patient=is_flowing
            )
            place += outcome.count
            # Uvicorn does not let an answer end that is shorter than was told.
            self._cycle.expected_content_length -= outcome.count
            if outcome.is_end or protocol.transport.is_closing():
                protocol.lose(self._cycle)
                return False
            is_flowing = outcome.is_whole
            if not is_flowing:
                await protocol.ready(self._descriptor, to_write=True, within_s=idle_s)
        return True

    def close(self) -> None:
        os.close(self._descriptor)


def passage_of(scope: Any) -> Passage | None:
    """Return how a request's bytes go past the server, None where they do not."""
    found: Passage | None = (scope.get("extensions") or {}).get(_NAME)
    return found


def _can_take(cycle: RequestResponseCycle, count: int) -> bool:
    is_open = cycle.response_started and not cycle.response_complete
    has_length = cycle.chunked_encoding is False and cycle.scope["method"] != "HEAD"
    return is_open and has_length and count <= cycle.expected_content_length


async def _flushed(protocol: LargeBodyProtocol) -> None:
    """Wait until the transport has nothing more to send."""
    transport = protocol.transport
    transport.set_write_buffer_limits(high=0)
    try:
        if transport.get_write_buffer_size():
            await protocol.flow.drain()
    finally:
        transport.set_write_buffer_limits()
