"""Clients that take nothing of what they are sent: their connections are cut after a while.

A server waits for a client that does not read, and a request of such a client would hold what it
holds for as long as the client likes: a place in the engine, a limit, what is computed for it. A
slow reader is not a stalled one: what counts is whether anything is taken, and the kernel knows
what the other end has acknowledged (Linux, linux/tcp.h: `tcpi_bytes_acked`; elsewhere nobody is
cut). Who has nothing to take is not looked at. A cut is to the application as if the client had
left. Knows no route. A part of the server, beside `draining`.
"""

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from ollamasite import meters

logger = logging.getLogger(__name__)

# Where struct tcp_info has the count, and how long it is up to its end.
_ACKED_AT: Final = 120
_ACKED_END: Final = 128
_MOST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A connection for which something waits: how much its client had taken, and since when."""

    taken_bytes: int
    since_s: float


class StalledReaders:
    """Looks at a server's connections again and again; they are its protocols."""

    def __init__(self, connections: Collection[Any], *, within_s: float) -> None:
        self._connections = connections
        self._within_s = within_s
        self._waiting: dict[Any, _Waiting] = {}

    async def watch(self) -> None:
        """Cut who takes nothing for too long, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_MOST_PAUSE_S, self._within_s / 4))
            self.look(loop.time())

    def look(self, now_s: float) -> None:
        """Cut who has taken nothing for too long, as far as earlier looks tell."""
        before, self._waiting = self._waiting, {}
        for connection in tuple(self._connections):
            taken_bytes = _taken_bytes(connection.transport)
            if taken_bytes is None:
                continue
            waiting = before.get(connection)
            if waiting is None or waiting.taken_bytes != taken_bytes:
                self._waiting[connection] = _Waiting(taken_bytes, now_s)
            elif now_s - waiting.since_s < self._within_s:
                self._waiting[connection] = waiting
            else:
                self._cut(connection.transport)

    def _cut(self, transport: asyncio.Transport) -> None:
        meters.STALLED_READERS.inc()
        logger.warning(
            "a client has taken nothing of its answer for %.0f s: its connection is cut",
            self._within_s,
        )
        transport.abort()


def _taken_bytes(transport: asyncio.Transport) -> int | None:
    """Return how much the other end has taken so far; None: nothing waits, or nobody can tell."""
    if not transport.get_write_buffer_size() or sys.platform != "linux":
        return None
    try:
        # A copy of the descriptor: event loops give out no socket that tells.
        descriptor = transport.get_extra_info("socket").fileno()
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as copy:
            told = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_END)
    except OSError:  # it is closed already, or no TCP
        return None
    if len(told) < _ACKED_END:
        return None
    (acked,) = struct.unpack_from("=Q", told, _ACKED_AT)
    return int(acked)
