"""Large bodies past uvicorn: nothing is lost, nothing read twice, no body taken for a request."""

import contextlib
import hashlib
import inspect
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from uvicorn.protocols.http import flow_control, httptools_impl

from ollamasite.raw_sockets import LEAST_BYTES, LargeBodyProtocol, passage_of
from registry import raw_bodies
from registry.raw_bodies import ClientLeft, drain

MiB = 1024 * 1024
SIZE = 3 * MiB + 77
FILE = np.random.default_rng(1).bytes(SIZE)
EVIL = b"GET /evil HTTP/1.1\r\nhost: x\r\n\r\n"
# What `ollamasite.raw_sockets` builds on; where this changes, read that module again.
UVICORN = "ea814cf42e50628dba76b72e12900943da6801b4bcf097f11dff4ea2cdc99455"


class App:
    """Takes uploads, refuses some in their middle, and sends a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seen: list[str] = []
        self.written: dict[str, bytearray] = {}
        self.ended: dict[str, str] = {}
        self.failed: list[str] = []
        self.idle_s = 60.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path: str = scope["path"]
        self.seen.append(path)
        if path.startswith("/file"):
            return await self._send_file(scope, send)
        try:
            if path.startswith("/put"):
                await drain(scope, receive, self._writer(path), idle_s=self.idle_s)
        except (ClientLeft, TimeoutError, ValueError) as error:
            self.ended[path] = type(error).__name__
            if isinstance(error, ClientLeft):
                return None
        body = self.ended.get(path, hashlib.sha256(self.written.get(path, b"")).hexdigest())
        return await self._answer(send, body.encode())

    def _writer(self, path: str) -> Callable[[bytes | memoryview], None]:
        written = self.written.setdefault(path, bytearray())

        def write(batch: bytes | memoryview) -> None:
            # Behind a batch that could not be written none is.
            assert path not in self.failed
            written.extend(batch)
            if "refused" in path and len(written) > MiB:
                self.failed.append(path)
                raise ValueError

        return write

    async def _send_file(self, scope: Any, send: Any) -> None:
        first, _, last = scope["query_string"].decode().partition("-")
        start = int(first or 0)
        count = int(last or SIZE - 1) - start + 1
        await self._answer(send, b"", length=count, more_body=True)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        passage = passage_of(scope)
        assert passage is not None
        with self.file.open("rb") as file:
            sent = await passage.send_file(file.fileno(), start, count, idle_s=self.idle_s)
        self.ended[scope["path"]] = str(sent)
        if sent:
            await send({"type": "http.response.body", "body": b""})

    async def _answer(
        self, send: Any, body: bytes, *, length: int | None = None, more_body: bool = False
    ) -> None:
        told = str(len(body) if length is None else length).encode()
        headers = [(b"content-length", told)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not more_body:
            await send({"type": "http.response.body", "body": body})


class Served:
    """The application behind uvicorn, in a thread of its own."""

    def __init__(self, app: App, loop: str) -> None:
        self.app = app
        self._listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http=LargeBodyProtocol,
            loop=loop,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=10,
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, args=([self._listener],))
        self._thread.start()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def connect(self, **options: int) -> "Client":
        return Client(self._listener.getsockname()[1], **options)

    def end(self) -> None:
        self.server.should_exit = True
        self._thread.join(20)
        self._listener.close()
        assert not self._thread.is_alive()


class Client:
    """A connection of which a test decides every byte."""

    def __init__(self, port: int, **options: int) -> None:
        self.socket = socket.socket()
        for name, value in options.items():
            self.socket.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self._reader = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, method: str, target: str, *headers: str, length: int | None = None) -> None:
        told = [] if length is None else [f"content-length: {length}"]
        lines = [f"{method} {target} HTTP/1.1", "host: localhost", *told, *headers, "", ""]
        self.send("\r\n".join(lines).encode())

    def head(self) -> tuple[int, dict[str, str]]:
        status = int(self._reader.readline().split()[1])
        headers = {}
        while line := self._reader.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers

    def answer(self) -> bytes:
        status, headers = self.head()
        assert status == 200
        return self._reader.read(int(headers["content-length"]))

    def rest(self) -> bytes:
        return self._reader.read()

    def is_at_end(self) -> bool:
        with contextlib.suppress(ConnectionError):
            return self._reader.read(1) == b""
        return True

    def close(self) -> None:
        self._reader.close()
        self.socket.close()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def served(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("sockets") / "file"
    file.write_bytes(FILE)
    served = Served(App(file), request.param)
    yield served
    served.end()


@pytest.fixture
def app(served: Served) -> App:
    # A new one: a client that has left an earlier test may be noticed only now.
    served.app = App(served.app.file)
    return served.app


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    client = served.connect()
    yield client
    client.close()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of each body were left when it was taken over."""
    found: list[int] = []
    take = LargeBodyProtocol.take

    def noted(protocol: LargeBodyProtocol, cycle: Any) -> bytes:
        found.append(protocol.left_bytes(cycle))
        return take(protocol, cycle)

    monkeypatch.setattr(LargeBodyProtocol, "take", noted)
    return found


def hash_of(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def wait_for(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def test_internals_of_uvicorn_are_those_that_were_read() -> None:
    source = "".join(map(inspect.getsource, (httptools_impl, flow_control)))

    assert hashlib.sha256(source.encode()).hexdigest() == UVICORN


# ------------------------------------------------------------------ up


def test_large_body_is_taken_over_and_the_connection_stays(
    app: App, client: Client, taken: list[int]
) -> None:
    for number in range(3):
        client.ask("PUT", f"/put/{number}", length=SIZE)
        client.send(FILE)
        assert client.answer() == hash_of(FILE)
        client.ask("GET", "/other")
        assert client.answer()

    assert len(taken) == 3
    assert max(taken) <= SIZE


def test_requests_behind_a_body_are_answered_in_order(
    app: App, client: Client, taken: list[int]
) -> None:
    client.ask("PUT", "/put/1", length=SIZE)
    client.send(FILE + EVIL.replace(b"evil", b"put/2") + EVIL.replace(b"evil", b"three"))
    assert [client.answer() for _ in range(3)] == [hash_of(FILE), hash_of(b""), hash_of(b"")]

    assert app.seen == ["/put/1", "/put/2", "/three"]
    assert len(taken) == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("path", ["/put/good", "/put/refused"])
def test_body_is_never_a_request(app: App, client: Client, seed: int, path: str) -> None:
    body = EVIL * (2 * MiB // len(EVIL) + 1)
    chosen = random.Random(seed)  # noqa: S311 - not a secret
    whole = b"".join(
        [
            f"PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode(),
            body,
            EVIL.replace(b"evil", b"next"),
        ]
    )
    near_ends = [*range(40, 160), *range(len(whole) - 60, len(whole))]
    cuts = chosen.sample(near_ends, 12) + [chosen.randrange(len(whole)) for _ in range(6)]
    places = [0, *sorted(set(cuts)), len(whole)]
    for start, end in itertools.pairwise(places):
        client.send(whole[start:end])
        time.sleep(chosen.choice([0, 0, 0.003]))

    assert client.answer() == (hash_of(body) if "good" in path else b"ValueError")
    assert client.answer() == hash_of(b"")
    client.ask("GET", "/last")
    assert client.answer()
    assert app.seen == [path, "/next", "/last"]


def test_refused_sender_reads_why_and_goes_on(app: App, client: Client, taken: list[int]) -> None:
    client.ask("PUT", "/put/refused", length=SIZE)
    client.send(FILE[: SIZE - 5])
    assert client.answer() == b"ValueError"
    client.send(FILE[-5:])
    client.ask("PUT", "/put/2", length=SIZE)
    client.send(FILE)

    assert client.answer() == hash_of(FILE)
    assert len(taken) == 2


def test_client_that_leaves_has_left_all_it_sent(app: App, served: Served) -> None:
    client = served.connect()
    client.ask("PUT", "/put/left", length=SIZE)
    client.send(FILE[: 2 * MiB + 5])
    wait_for(lambda: app.written.get("/put/left"))
    client.close()
    wait_for(lambda: app.ended)

    assert app.ended == {"/put/left": "ClientLeft"}
    assert app.written["/put/left"] == FILE[: 2 * MiB + 5]


def test_sender_is_asked_for_the_body(app: App, client: Client, taken: list[int]) -> None:
    client.ask("PUT", "/put/1", "expect: 100-continue", length=SIZE)
    assert client.head() == (100, {})
    client.send(FILE)

    assert client.answer() == hash_of(FILE)
    assert len(taken) == 1


def test_slow_sender_is_written_and_waited_for(
    app: App, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_bodies, "_BATCH_S", 0.05)
    client.ask("PUT", "/put/slow", length=SIZE)
    for place in range(300):
        client.send(FILE[place : place + 1])
    wait_for(lambda: len(app.written.get("/put/slow", b"")) == 300)
    client.send(FILE[300:-100])
    for place in range(SIZE - 100, SIZE):
        client.send(FILE[place : place + 1])

    assert client.answer() == hash_of(FILE)


def test_silent_sender_is_not_waited_for_always(app: App, client: Client) -> None:
    app.idle_s = 0.1
    client.ask("PUT", "/put/silent", length=SIZE)
    client.send(FILE[: 2 * MiB])
    assert client.answer() == b"TimeoutError"
    client.send(FILE[2 * MiB :])
    client.ask("GET", "/next")

    assert client.answer()
    assert app.written["/put/silent"] == FILE[: 2 * MiB]


def test_silent_senders_hold_no_threads(app: App, served: Served) -> None:
    clients = [served.connect() for _ in range(40)]
    for number, client in enumerate(clients):
        client.ask("PUT", f"/put/{number}", length=SIZE)
        client.send(FILE[: MiB // 2])
    wait_for(lambda: len(app.written) == 40)
    for client in reversed(clients):
        client.send(FILE[MiB // 2 :])
        assert client.answer() == hash_of(FILE)
        client.close()


@pytest.mark.parametrize(
    "headers", [["content-length: 5", "content-length: 6"], ["content-length: 5x"]]
)
def test_unclear_lengths_are_refused(client: Client, headers: list[str]) -> None:
    client.ask("PUT", "/put/1", *headers)

    assert client.head()[0] == 400


def test_length_beside_chunks_is_refused(client: Client) -> None:
    client.ask("PUT", "/put/1", f"content-length: {SIZE}", "transfer-encoding: chunked")

    assert client.head()[0] == 400


def test_chunks_and_small_bodies_stay_with_uvicorn(
    app: App, client: Client, taken: list[int]
) -> None:
    client.ask("PUT", "/put/1", "transfer-encoding: chunked")
    client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, FILE))
    assert client.answer() == hash_of(FILE)
    client.ask("PUT", "/put/2", length=LEAST_BYTES)
    client.send(FILE[:LEAST_BYTES])
    assert client.answer() == hash_of(FILE[:LEAST_BYTES])

    assert taken == []


def test_what_the_transport_brings_in_between_ends_the_connection(
    app: App, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_control.FlowControl, "pause_reading", lambda _: None)
    client.ask("PUT", "/put/1", length=2 * SIZE)
    with contextlib.suppress(ConnectionError):
        for _ in range(20):
            client.send(EVIL * 100)
            time.sleep(0.002)

    assert client.is_at_end()
    assert app.seen == ["/put/1"]


# ------------------------------------------------------------------ down


def test_file_is_sent_and_the_connection_stays(app: App, client: Client) -> None:
    for query, expected in (("", FILE), ("5-99", FILE[5:100]), (f"7-{SIZE - 2}", FILE[7:-1])):
        client.ask("GET", f"/file?{query}")
        assert client.answer() == expected
    client.ask("HEAD", "/file")
    assert client.head()[1]["content-length"] == str(SIZE)
    client.ask("GET", "/other")

    assert client.answer()


def test_files_that_are_asked_for_at_once_come_in_order(app: App, client: Client) -> None:
    for start in range(4):
        client.ask("GET", f"/file?{start}-{SIZE - 1}")

    assert [client.answer() for _ in range(4)] == [FILE[start:] for start in range(4)]


def test_connection_that_shall_close_closes_after_the_file(app: App, client: Client) -> None:
    client.ask("GET", "/file", "connection: close")

    assert client.answer() == FILE
    assert client.is_at_end()


def test_nonsense_behind_a_request_is_not_answered_within_the_file(
    app: App, served: Served
) -> None:
    client = served.connect(SO_RCVBUF=4096)
    client.ask("GET", "/file")
    wait_for(lambda: app.seen)
    time.sleep(0.05)
    client.send(b"nonsense\r\n\r\n")
    client.head()
    with contextlib.suppress(ConnectionError):
        assert FILE.startswith(client.rest())
    client.close()
    wait_for(lambda: app.ended)

    assert app.ended == {"/file": "False"}


def test_reader_who_leaves_ends_it(app: App, served: Served) -> None:
    client = served.connect(SO_RCVBUF=4096)
    client.ask("GET", "/file")
    client.head()
    client.close()
    wait_for(lambda: app.ended)

    assert app.ended == {"/file": "False"}


def test_readers_who_stand_still_hold_no_threads(app: App, served: Served, client: Client) -> None:
    with contextlib.ExitStack() as closing:
        sleeping = [served.connect(SO_RCVBUF=4096) for _ in range(40)]
        for number, reader in enumerate(sleeping):
            closing.callback(reader.close)
            reader.ask("GET", f"/file/{number}")
        wait_for(lambda: len(app.seen) == 40)
        client.ask("GET", "/file/last")
        assert client.answer() == FILE
        wait_for(lambda: app.ended)
        assert app.ended == {"/file/last": "True"}

        assert sleeping[7].answer() == FILE
    wait_for(lambda: len(app.ended) == 41)


# ------------------------------------------------------------------ the end


def test_transfers_come_to_their_end_when_the_server_stops(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FILE)
    served = Served(App(tmp_path / "file"), "uvloop")
    wait_for(lambda: served.server.started)
    reader, sender = served.connect(SO_RCVBUF=4096), served.connect()
    reader.ask("GET", "/file")
    sender.ask("PUT", "/put/1", length=SIZE)
    sender.send(FILE[: 2 * MiB])
    wait_for(lambda: len(served.app.seen) == 2)
    ending = threading.Thread(target=served.end)
    ending.start()
    time.sleep(0.2)
    sender.send(FILE[2 * MiB :])

    assert reader.answer() == FILE
    assert sender.answer() == hash_of(FILE)
    ending.join()
    assert reader.is_at_end()
    assert sender.is_at_end()
    reader.close()
    sender.close()
