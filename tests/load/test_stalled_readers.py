"""Clients that open a stream and read nothing of it: each is cut, and its request ended, once.

Beside them one that reads slowly, which is nobody's fault.
"""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.load.site import MODEL, LoadSite, Web
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(600)]

STALLED = 50
STALLED_SOCKETS = 4
# Longer than a busy machine stops the one who reads slowly.
TIMEOUT_S = 15.0
LIMIT_S = 240.0
# What is said to each in a second, so that the kernels' buffers are soon full.
RATE, PIECE_BYTES = 40.0, 8 * 1024
# Of one stream, with what Python keeps of it; without the bounds it grows by 300 KiB a second.
MOST_KIB_EACH = 6 * 1024
ENDLESS = {"num_predict": 10_000_000}
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "options": ENDLESS}


def open_stream(web: Web, key: str) -> socket.socket:
    """Ask for an endless answer; return the socket, of which nothing has been read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", web.port))
    body = json.dumps(QUESTION)
    head = (
        f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client.sendall((head + body).encode())
    return client


def open_socket(web: Web, key: str) -> ClientConnection:
    """Return a WebSocket, whose client reads until one message waits for who uses it."""
    return connect(
        f"ws://127.0.0.1:{web.port}/ws/chat",
        additional_headers={"Authorization": f"Bearer {key}"},
        compression=None,
        ping_interval=None,
        open_timeout=60,
        max_queue=1,
        close_timeout=1,
    )


class SlowReader:
    """Reads some of its answer all the time, far less than there is."""

    def __init__(self, web: Web, key: str) -> None:
        self._client = open_stream(web, key)
        self._is_over = threading.Event()
        self.was_cut = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._is_over.wait(0.2):
            try:
                self.was_cut = not self._client.recv(16 * 1024)
            except OSError:
                self.was_cut = True
            if self.was_cut:
                return

    def end(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._client.close()


@dataclass
class Run:
    """What came of it."""

    site: LoadSite
    web: Web
    grown_kib: float
    tasks: int  # before
    slow_was_cut: bool


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    settings = {
        "OLLAMASITE_NUM_PARALLEL": str(STALLED + STALLED_SOCKETS + 2),
        "OLLAMASITE_READER_TIMEOUT": f"{TIMEOUT_S:.0f}s",
    }
    site = LoadSite(tmp_path_factory.mktemp("s"), **settings)
    with site.node(rate=RATE, length=PIECE_BYTES), site.web() as web, ExitStack() as stack:
        tasks, before_mib = web.held().tasks, web.rss_mib
        slow = SlowReader(web, site.key)
        stack.callback(slow.end)
        for _ in range(STALLED):
            stack.enter_context(open_stream(web, site.key))
        for _ in range(STALLED_SOCKETS):
            client = stack.enter_context(open_socket(web, site.key))
            client.send(json.dumps({"type": "chat", "id": "a", **QUESTION}))
        wait_for(lambda: cuts(web) >= STALLED + STALLED_SOCKETS, LIMIT_S)
        grown_kib = (web.rss_mib - before_mib) * 1024
        was_cut = slow.was_cut
        slow.end()
        wait_for(lambda: site.ledger()[0] > STALLED + STALLED_SOCKETS, 180)
        yield Run(site, web, grown_kib, tasks, was_cut)


def cuts(web: Web) -> int:
    return web.log.count("a client has taken nothing of its answer")


def outcomes(site: LoadSite) -> dict[str, int]:
    code = (
        "from collections import Counter\n"
        "from models_app.models import LedgerEntry\n"
        "for outcome, count in Counter(\n"
        "    LedgerEntry.objects.values_list('outcome', flat=True)).items():\n"
        "    print('outcome', outcome, count)"
    )
    told = site.run("django", "shell", "-c", code)
    return {name: int(count) for name, count in re.findall(r"outcome (\w+) (\d+)", told)}


def test_each_is_cut_once_and_the_slow_one_is_not(run: Run) -> None:
    assert cuts(run.web) == STALLED + STALLED_SOCKETS
    assert not run.slow_was_cut


def test_each_request_has_one_row_and_has_left(run: Run) -> None:
    assert outcomes(run.site) == {"left": STALLED + STALLED_SOCKETS + 1}


def test_nothing_is_left_of_them(run: Run) -> None:
    wait_for(lambda: run.web.held().tasks <= run.tasks + 3)
    assert "Traceback" not in run.web.log


def test_web_grows_by_little(run: Run) -> None:
    each_kib = run.grown_kib / (STALLED + STALLED_SOCKETS)
    print(f"{each_kib:.0f} KiB a stalled reader")  # noqa: T201

    assert each_kib < MOST_KIB_EACH
