"""A proxy of unix sockets or TCP that cuts connections at random. Knows no protocol.

It takes the place of a unix socket: that one is renamed, and whoever connects meets the proxy.
"""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 64 * 1024


class Cutter:
    """Passes bytes on in both directions, and cuts now and then."""

    def __init__(self, server: socket.socket, family: int, behind: str | tuple[str, int]) -> None:
        self.cuts = 0
        self.is_cutting = False
        self._server = server
        self._family = family
        self._behind = behind
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        for work in (self._accept, self._cut):
            threading.Thread(target=work, daemon=True).start()

    def cut_one(self) -> bool:
        """Cut a connection, whichever; return whether there was one."""
        with self._lock:
            if not self._pairs:
                return False
            pair = random.choice(sorted(self._pairs, key=id))  # noqa: S311 - not a secret
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.cuts += 1
        return True

    def stop(self) -> None:
        self._is_over.set()
        self._server.close()
        while self.cut_one():
            pass

    def _cut(self) -> None:
        while not self._is_over.wait(random.uniform(0.1, 0.5)):  # noqa: S311 - same
            if self.is_cutting:
                self.cut_one()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                behind = socket.socket(self._family, socket.SOCK_STREAM)
            except OSError:
                return
            try:
                behind.connect(self._behind)
            except OSError:
                client.close()
                behind.close()
                continue
            pair = (client, behind)
            with self._lock:
                self._pairs.add(pair)
            for source, target in (pair, pair[::-1]):
                threading.Thread(
                    target=self._pass, args=(source, target, pair), daemon=True
                ).start()

    def _pass(
        self,
        source: socket.socket,
        target: socket.socket,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(_BLOCK_BYTES):
                target.sendall(block)
        with self._lock:
            self._pairs.discard(pair)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # each of the two threads closes the end that it has read from


@contextlib.contextmanager
def before_port(port: int) -> Iterator[tuple[Cutter, int]]:
    """Stand before a port of this machine; gives the port to connect to."""
    server = socket.create_server(("127.0.0.1", 0))
    cutter = Cutter(server, socket.AF_INET, ("127.0.0.1", port))
    try:
        yield cutter, server.getsockname()[1]
    finally:
        cutter.stop()


@contextlib.contextmanager
def before_socket(path: Path) -> Iterator[Cutter]:
    """Stand before a unix socket, whose place it gets back at the end."""
    real = path.with_name(f"real-{path.name}")
    path.rename(real)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen(64)
    cutter = Cutter(server, socket.AF_UNIX, str(real))
    try:
        yield cutter
    finally:
        real.rename(path)
        cutter.stop()
        time.sleep(0.1)
