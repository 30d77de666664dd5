"""A TCP proxy that hands connections on, slowly or with a cut where a test wants one.

Knows no protocol.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

_BLOCK_BYTES = 16 * 1024


class TcpFront:
    """Listens on a port of its own in front of `behind` (`host:port`), which may change."""

    def __init__(self, behind: str = "") -> None:
        self.behind = behind
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        # From both directions together, through all connections.
        self.passed_bytes = 0
        self.cuts_at: list[int] = []  # of `passed_bytes`: the connection that gets there is cut
        self.cuts = 0
        self.bytes_per_s: float | None = None
        self.holds_at: int | None = None  # of `passed_bytes`: while it is set, no more pass
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Take connections from now on."""
        self._start(self._serve)

    def stop(self) -> None:
        """Take no more, and wait for those that there are to end."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.bytes_per_s = self.holds_at = None
        for thread in list(self._threads):
            thread.join(5)

    def settle(self) -> None:
        """Wait until the connections so far are over: what was under way has been counted then."""
        _, *passing = self._threads
        for thread in passing:
            thread.join(5)

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            host, _, port = self.behind.partition(":")
            try:
                upstream = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            self._start(self._pass_on, client, upstream)
            self._start(self._pass_on, upstream, client)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        # Each of a pair of threads closes the end that it reads from.
        with source:
            with contextlib.suppress(OSError):
                self._copy(source, target)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        while block := source.recv(_BLOCK_BYTES):
            self.passed_bytes += len(block)
            if self.cuts_at and self.passed_bytes >= self.cuts_at[0]:
                self.cuts_at.pop(0)
                self.cuts += 1
                return
            while self.holds_at is not None and self.passed_bytes >= self.holds_at:
                time.sleep(0.01)
            target.sendall(block)
            if self.bytes_per_s:
                time.sleep(len(block) / self.bytes_per_s)


@contextlib.contextmanager
def tcp_front(behind: str = "") -> Iterator[TcpFront]:
    """Run one."""
    front = TcpFront(behind)
    front.start()
    try:
        yield front
    finally:
        front.stop()
