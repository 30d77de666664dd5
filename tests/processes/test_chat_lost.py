"""Answers of the chat page across web processes: followed and stopped from another one, lost."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.databases import database_settings
from tests.pages.catalogue import STARTER
from tests.pages.live_site import _command, _node_in_thread
from tests.prepared_sites import Kind, copy_prepared
from tests.processes.running_site import free_port, listens, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside]

# It is to be one second: a process looks every 0.3 s. A machine that does much else takes longer,
# now and then.
SOON_S = 3.0
TRIES = 10
# The fake node says so many words, 2 ms apart: no test is still there at the end.
LONG = {"num_predict": 100_000}
LIMIT_S = 90.0


class Site:
    """A site with a node, and bob, who has signed in."""

    def __init__(self, folder: Path, environ: dict[str, str], session: str) -> None:
        self._folder = folder
        self._environ = environ
        self._session = session

    @contextmanager
    def web(self) -> Iterator["Web"]:
        """Run a web process."""
        port = free_port()
        command = _command("ollamasite", "web", "--host", "127.0.0.1", "--port", str(port))
        log = self._folder / f"{port}.log"
        with log.open("w") as written:
            process = subprocess.Popen(
                command, env=self._environ, stdout=written, stderr=subprocess.STDOUT
            )
        try:
            wait_for(lambda: process.poll() is not None or listens(port), 60)
            assert process.poll() is None, log.read_text()
            yield Web(process, port, self._session)
        finally:
            process.kill()
            process.wait(30)


@dataclass(frozen=True, slots=True)
class Web:
    """A web process that runs."""

    process: subprocess.Popen[bytes]
    port: int
    session: str

    def open(self) -> ClientConnection:
        """Open the chat page's socket."""
        host = f"127.0.0.1:{self.port}"
        headers = {"Cookie": f"ollamasite_session={self.session}", "Origin": f"http://{host}"}
        url = f"ws://{host}/ws/chats"
        return connect(url, additional_headers=headers, origin=None, open_timeout=LIMIT_S)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("s")
    facts = copy_prepared(Kind.CATALOGUE, folder)
    environ = os.environ | database_settings(folder)
    environ |= {"OLLAMASITE_DATA_DIR": str(folder), "OLLAMASITE_LOG_LEVEL": "WARNING"}
    environ |= {"OLLAMASITE_DRAIN_TIMEOUT": "1"}
    with _node_in_thread(folder / "run" / "engine.sock", facts.digest):
        yield Site(folder, environ, facts.session)


@pytest.fixture(scope="module")
def staying(site: Site) -> Iterator[Web]:
    with site.web() as web:
        yield web


@pytest.fixture
def leaving(site: Site) -> Iterator[Web]:
    with site.web() as web:
        yield web


def hear(socket: ClientConnection, is_it: Callable[[Any], bool]) -> Any:
    """Return the first frame that is wanted."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        frame = json.loads(socket.recv(timeout=LIMIT_S))
        if is_it(frame):
            return frame
    raise AssertionError("it was not told")


def begin(socket: ClientConnection) -> Any:
    """Ask for a long answer; return how it began, when it has words."""
    asked = {"type": "ask", "id": "q", "model": STARTER, "text": "Hello", "options": LONG}
    socket.send(json.dumps(asked))
    started = hear(socket, lambda frame: frame["type"] in {"started", "error"})
    assert started["type"] == "started", started
    hear(socket, lambda frame: frame["type"] == "growth" and frame["version"] > 300)
    return started


def follow(socket: ClientConnection, message: str) -> None:
    socket.send(json.dumps({"type": "follow", "id": "f", "message": message, "version": 0}))


def have_saved(there: ClientConnection) -> None:
    """Wait until another process knows of many words, which it has from the database."""
    hear(there, lambda frame: frame["type"] == "growth" and frame["version"] > 300)


def ended(socket: ClientConnection) -> Any:
    return hear(socket, lambda frame: frame["type"] == "ended")


def test_answer_is_followed_and_stopped_from_another_process(leaving: Web, staying: Web) -> None:
    took: list[float] = []
    with leaving.open() as here, staying.open() as there:
        while not took or (min(took) >= SOON_S and len(took) < TRIES):
            message = begin(here)["message"]
            follow(there, message)
            have_saved(there)
            began = time.monotonic()
            there.send(json.dumps({"type": "stop", "message": message}))
            end = ended(here)
            took.append(time.monotonic() - began)
            again = ended(there)
            assert (end["state"], again["state"]) == ("stopped", "stopped")
            assert again["html"] == end["html"]

    assert min(took) < SOON_S, took


def test_answer_of_a_killed_process_is_interrupted(leaving: Web, staying: Web) -> None:
    with leaving.open() as here, staying.open() as there:
        message = begin(here)["message"]
        follow(there, message)
        have_saved(there)
        leaving.process.kill()
        end = ended(there)

    assert end["state"] == "interrupted"
    assert end["html"].count("word ") > 100
    assert end["error"]


def test_process_that_is_told_to_go_ends_its_answers(leaving: Web, staying: Web) -> None:
    with leaving.open() as here, staying.open() as there:
        message = begin(here)["message"]
        leaving.process.send_signal(signal.SIGTERM)
        assert leaving.process.wait(LIMIT_S) == 0
        follow(there, message)
        end = ended(there)

    assert end["state"] == "failed"  # "interrupted" is what has been found lost
    assert "shutting down" in end["error"]
    assert end["html"].count("word ") > 100
