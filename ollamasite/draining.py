"""How a web process stops listening without losing a request, and ends its connections.

Three things would lose one. Whoever has been let in by the kernel and not been accepted yet is cut
off when the listening socket closes: so the kernel is told to let nobody in, all that are in are
accepted, and then it closes. A connection on which nothing has been asked yet is closed by uvicorn
although the question may be on its way: so it stays a moment. And a WebSocket is cut in the middle
of an answer: so its consumer closes it, once it has said what it has to say (`models_app.sockets`).

Knows no route. A part of the server: uvicorn's protocols, beside `raw_sockets`.
"""

import ctypes
import logging
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ollamasite import leaving
from ollamasite.raw_sockets import LargeBodyProtocol

logger = logging.getLogger(__name__)

# A question that was on its way when the process was told to go is here by then.
LINGER_S: Final = 0.5
# Within this time the event loop has accepted whoever had been let in.
ACCEPT_S: Final = 0.2

# A classic BPF program over a TCP segment (linux/filter.h, linux/bpf_common.h): what has SYN and
# not ACK is dropped, all else is let through. 13: where a segment's flags are (RFC 9293, 3.1).
_SO_ATTACH_FILTER: Final = 26
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the flags
    (0x54, 0, 0, 0x12),  # and with SYN | ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFF),  # keep
)


class DrainingProtocol(LargeBodyProtocol):
    """A connection that is asked on for a moment after the process was told to go."""

    def on_headers_complete(self) -> None:
        """Say with the answer that it is the connection's last one."""
        super().on_headers_complete()
        # uvicorn leaves it None where the request is a WebSocket's.
        cycle: Any = self.cycle
        if leaving.is_leaving() and cycle is not None and cycle.scope is self.scope:
            cycle.keep_alive = False

    def shutdown(self) -> None:
        """End the connection behind its answer, or if nothing is asked for a moment."""
        if self._is_idle():
            self.loop.call_later(LINGER_S, self._end_if_idle)
        else:
            super().shutdown()

    def _is_idle(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _end_if_idle(self) -> None:
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()


class DrainingWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is not cut: its consumer hears that the process goes, and closes it."""

    async def send(self, message: Any) -> None:
        """Send an event. A refusal in words is a whole answer: uvicorn misses a handshake."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def shutdown(self) -> None:
        """Leave it to the consumer; what does not end within the drain time, uvicorn cuts."""
        if self.close_sent:
            super().shutdown()


def let_nobody_in(listeners: Iterable[Any]) -> None:
    """Have the kernel drop whoever asks for a connection; who was let in before is still accepted.

    A client that is not answered asks again after a second, and is refused then: it knows that
    nothing of what it has to say was heard. On Linux; elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    for listener in listeners:
        try:
            _drop_connection_requests(listener.fileno())
        except OSError as error:  # not TCP, say
            logger.warning("a listening socket cannot be told to let nobody in: %s", error)


def _drop_connection_requests(descriptor: int) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    program = ctypes.create_string_buffer(code)
    told = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    # A copy of the descriptor: event loops give out no socket that takes this option.
    copy = socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM)
    with copy:
        copy.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, told)
