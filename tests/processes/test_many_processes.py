"""The site of `docker-compose.yml` through its proxy: TLS, streams, uploads, sockets, restarts."""

import hashlib
import http.client
import itertools
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import ollama
import pytest
from openai import DefaultHttpxClient, OpenAI
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.fakes.registry import FakeRegistry, fake_registry
from tests.gguf_files import CHATML_JINJA, write_tiny_model
from tests.processes.many_processes import ManyProcesses, many_processes
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(400)]

MiB: Final = 1024 * 1024
MODEL: Final = "tiny"
# Where clients are: not where the proxy is.
CLIENT: Final = "127.0.0.5"
PASSWORD: Final = "of-the-test-only"
PIECE: Final = bytes(range(256)) * 4096  # 1 MiB
PIECES: Final = 200
# Longer than anything may take, and far less than for ever.
LIMIT_S: Final = 150.0
PAUSE_S: Final = 0.15  # between two requests of a client
# What the tiny model always goes on from, for longer than somebody waits.
ENDLESS: Final[dict[str, Any]] = {"temperature": 0, "repeat_penalty": 1, "num_predict": 7000}


@dataclass(frozen=True, slots=True)
class Site:
    """What runs, and somebody who may use it."""

    processes: ManyProcesses
    key: str
    tls: ssl.SSLContext

    @property
    def url(self) -> str:
        return self.processes.url

    @property
    def port(self) -> int:
        return self.processes.ports["https"]

    def client(self, address: str = CLIENT, **options: Any) -> httpx.Client:
        """Return a client of the site at an address of this machine, with the key."""
        transport = httpx.HTTPTransport(verify=self.tls, local_address=address)
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        return httpx.Client(
            base_url=self.url, transport=transport, headers=headers, timeout=LIMIT_S, **options
        )

    def connect(self) -> http.client.HTTPSConnection:
        """Return a connection of its own, for bodies that are made as they are sent."""
        return http.client.HTTPSConnection(
            "localhost", self.port, timeout=LIMIT_S, context=self.tls, source_address=(CLIENT, 0)
        )

    def socket(self, route: str, headers: dict[str, str] | None = None) -> ClientConnection:
        """Open a WebSocket."""
        # This client reads in a thread of its own, and OpenSSL's connections are not for two at a
        # time: the tickets that TLS 1.3 sends behind its handshake would be read in the moment in
        # which the request is written. Seen: a request that nginx never got.
        tls = ssl.create_default_context(cafile=self.processes.folder / "tls.crt")
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        shown = headers or {"Authorization": f"Bearer {self.key}"}
        address = f"wss://localhost:{self.port}/{route}"
        return connect(
            address, ssl=tls, additional_headers=shown, open_timeout=LIMIT_S, max_size=None
        )


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


@pytest.fixture(scope="module")
def site(registry: FakeRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("many")
    settings = {
        "OLLAMASITE_ALLOWED_REGISTRIES": f"http://{registry.host}",
        "OLLAMASITE_LOG_FORMAT": "json",
        "OLLAMASITE_DRAIN_TIMEOUT": "60s",  # twice the file's: this machine may do much else
    }
    with many_processes(folder, **settings) as processes:
        alice = ["ollamasite", "create-user", "alice", "--admin", "--password-stdin"]
        processes.run("web-1", *alice, told=f"{PASSWORD}\n")
        key = processes.run("web-1", "ollamasite", "create-key", "alice").strip()
        tls = ssl.create_default_context(cafile=processes.folder / "tls.crt")
        running = Site(processes, key, tls)
        with running.client() as client:
            wait_for(lambda: client.get("/readyz").status_code == 200, LIMIT_S)
            _create_model(client, processes.folder)
        yield running


def _create_model(client: httpx.Client, folder: Path) -> None:
    path = write_tiny_model(folder / "tiny.gguf", context_length=8192, chat_template=CHATML_JINJA)
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert client.post(f"/api/blobs/{digest}", content=data).status_code == 201
    body = {"model": MODEL, "files": {"tiny.gguf": digest}, "stream": False}
    answer = client.post("/api/create", json=body)
    assert answer.json() == {"status": "success"}, answer.text


def running_requests(site: Site) -> int:
    with site.client() as client:
        told = client.get("/api/queue").json()
    return int(told["running"]) + int(told["waiting"])


# ------------------------------------------------------------------ the proxy


def test_pages_come_by_tls_alone_and_say_so(site: Site) -> None:
    plain = f"http://127.0.0.1:{site.processes.ports['http']}/api/version"
    sent_there = httpx.post(plain, headers={"Host": "localhost"}, timeout=LIMIT_S)
    with site.client() as client:
        page = client.get("/signin")

    assert (sent_there.status_code, sent_there.headers["location"]) == (
        308,
        f"{site.url}/api/version",
    )
    assert page.status_code == 200
    assert page.headers["strict-transport-security"].startswith("max-age=31536000")
    assert "secure" in page.headers["set-cookie"].lower()


def test_address_is_the_clients_and_nobody_writes_another(site: Site) -> None:
    command = ["ollamasite", "create-key", "alice", "--network", f"{CLIENT}/32"]
    bound = {"Authorization": f"Bearer {site.processes.run('web-1', *command).strip()}"}
    told = bound | {"X-Forwarded-For": CLIENT, "X-Real-IP": CLIENT, "Forwarded": f"for={CLIENT}"}
    with site.client(headers=bound) as here, site.client("127.0.0.6", headers=told) as there:
        statuses = here.get("/api/tags").status_code, there.get("/api/tags").status_code

    assert statuses[0] == 200
    assert statuses[1] in {401, 403}


def test_foreign_host_and_too_large_body_are_refused(site: Site) -> None:
    large = b"x" * (101 * MiB)
    with site.client() as client:
        foreign = client.get("/signin", headers={"Host": "elsewhere.example"})
        own = client.get("/signin", headers={"Host": "models.example"})
        refused = client.post("/api/show", content=large)

    assert foreign.status_code in {400, 403, 421}
    assert own.status_code == 200
    assert refused.status_code == 413
    assert "error" in refused.json()


@pytest.mark.parametrize("name", ["redis", "web-1", "worker", "inference", "proxy"])
def test_health_is_told_as_docker_asks(site: Site, name: str) -> None:
    wait_for(lambda: site.processes.is_healthy(name), LIMIT_S)


def test_site_is_looked_over_and_backed_up_as_docs_say(site: Site, tmp_path: Path) -> None:
    # Of `docker compose exec web-1` and `docker compose run web-1`.
    port = {"OLLAMASITE_PORT": str(site.processes.ports["web-1"])}
    for name in ("web-1", "worker", "inference"):  # a test before may have started it anew
        wait_for(lambda name=name: site.processes.is_healthy(name), LIMIT_S)  # type: ignore[misc]
    told = site.processes.run("web-1", "ollamasite", "check", settings=port)
    whole = site.processes.run("web-1", "ollamasite", "backup", str(tmp_path / "one.tar"))

    assert "error" not in told
    for part in ("database", "engine", "worker", "ledger", "store"):
        assert f"ok       {part}\n" in told, told
    assert "is whole" in whole


# ------------------------------------------------------------------ streams


def bursts(times_s: list[float]) -> int:
    """Return how often something came: pieces within a millisecond of the last came with it.

    A proxy that keeps what passes until it has a buffer full makes 20 of 400 pieces.
    """
    return 1 + sum(later - sooner > 0.001 for sooner, later in itertools.pairwise(times_s))


def openai_stream_s(site: Site) -> list[float]:
    """Return when the pieces of an answer of 400 tokens came."""
    with closing(DefaultHttpxClient(verify=site.tls, timeout=LIMIT_S)) as http_client:
        openai = OpenAI(base_url=f"{site.url}/v1", api_key=site.key, http_client=http_client)
        stream = openai.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "why is the sky blue"}],
            stream=True,
            max_tokens=400,
            logit_bias={"2": -100, "4": -100},
        )
        return [time.monotonic() for piece in stream if piece.choices]


def test_openai_streams_token_by_token(site: Site) -> None:
    # Where the machine does much else, this client comes late and finds many pieces at once.
    for _ in range(10):
        times_s = openai_stream_s(site)
        assert len(times_s) > 300
        if bursts(times_s) > 25:
            return
    raise AssertionError("pieces came a buffer at a time")


def test_ollama_streams(site: Site) -> None:
    question: Any = [{"role": "user", "content": "why is the sky blue"}]
    headers = {"Authorization": f"Bearer {site.key}"}
    with closing(ollama.Client(host=site.url, headers=headers, verify=site.tls)) as client:
        whole = client.chat(MODEL, question, options={"num_predict": 60, "seed": 3})
        parts = list(
            client.chat(MODEL, question, stream=True, options={"num_predict": 60, "seed": 3})
        )

    # The random model ends an answer when it likes.
    assert parts[-1].done
    assert "".join(part.message.content or "" for part in parts) == whole.message.content


def ends_on_node(site: Site, request_id: str) -> list[dict[str, Any]]:
    """Return what the node has written of the end of a request."""
    lines = site.processes.log("inference").read_text().splitlines()
    told = [json.loads(line) for line in lines if request_id in line]
    return [line for line in told if line["event"] == "request ended"]


def test_client_that_leaves_is_heard_of_by_the_node(site: Site) -> None:
    body = {"model": MODEL, "prompt": "a", "raw": True, "options": ENDLESS}
    with ExitStack() as pause:
        with site.client() as client, client.stream("POST", "/api/generate", json=body) as answer:
            next(answer.iter_lines())
            # However fast it answers: it is still answering when the client leaves.
            pause.enter_context(site.processes.no_answer_goes_on())
        left = datetime.now(UTC)
    request_id = answer.headers["x-request-id"]
    wait_for(lambda: bool(ends_on_node(site, request_id)), LIMIT_S)
    [end] = ends_on_node(site, request_id)

    assert end["outcome"] == "cancelled"
    assert end["tokens_out"] < ENDLESS["num_predict"]
    # It is to be one second. By the node's own clock, which is this machine's.
    assert (datetime.fromisoformat(end["timestamp"]) - left).total_seconds() < 20
    wait_for(lambda: running_requests(site) == 0, LIMIT_S)


def test_websocket_says_an_answer(site: Site) -> None:
    with site.socket("ws/chat") as socket:
        kinds = [frame["type"] for frame in ask_on_socket(socket, "a", 50)]

    assert kinds[-1] == "done"
    assert set(kinds[:-1]) <= {"token"}


def ask_on_socket(socket: ClientConnection, name: str, count: int) -> Iterator[dict[str, Any]]:
    """Ask on `ws/chat` and yield frames to the end of the answer."""
    messages = [{"role": "user", "content": "hello"}]
    options = {"num_predict": count}
    asked = {"type": "chat", "id": name, "model": MODEL, "messages": messages, "options": options}
    socket.send(json.dumps(asked))
    while True:
        frame = json.loads(socket.recv(LIMIT_S))
        yield frame
        if frame["type"] in {"done", "error"}:
            return


# ------------------------------------------------------------------ uploads


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def pieces(count: int, seed: bytes) -> Iterator[bytes]:
    for _ in range(count):
        yield seed + PIECE[len(seed) :]


def digest_of(count: int, seed: bytes) -> str:
    hasher = hashlib.sha256()
    for piece in pieces(count, seed):
        hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


def upload(site: Site, path: str, method: str, count: int, seed: bytes) -> int:
    headers = {"Authorization": f"Bearer {site.key}", "Content-Length": str(count * MiB)}
    with closing(site.connect()) as connection:
        connection.request(method, path, body=pieces(count, seed), headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def test_large_files_pass_without_being_kept_in_memory(site: Site) -> None:
    def all_pids() -> list[int]:
        webs = [site.processes.pid(name) for name in ("web-1", "web-2")]
        proxy = site.processes.pid("proxy")
        children = Path(f"/proc/{proxy}/task/{proxy}/children").read_text().split()
        return [*webs, proxy, *map(int, children)]

    for _ in range(4):  # both webs have done it once
        upload(site, f"/api/blobs/{digest_of(1, b'w')}", "POST", 1, b"w")
    before = {pid: peak_bytes(pid) for pid in all_pids()}
    digest, other = digest_of(PIECES, b"n"), digest_of(PIECES, b"v")
    native = upload(site, f"/api/blobs/{digest}", "POST", PIECES, b"n")
    with site.client() as client:
        begun = client.post("/v2/alice/large/blobs/uploads/")
    place = begun.headers["location"].removeprefix(site.url)
    joint = "&" if "?" in place else "?"
    registry = upload(site, f"{place}{joint}digest={other}", "PUT", PIECES, b"v")
    grown = {pid: peak_bytes(pid) - peak for pid, peak in before.items()}

    assert (native, begun.status_code, registry) == (201, 202, 201)
    assert max(grown.values()) < 48 * MiB, grown
    stored = site.processes.data_dir / "blobs" / digest.replace(":", "-")
    assert stored.stat().st_size == PIECES * MiB


# ------------------------------------------------------------------ two webs, one site


def sign_in(client: httpx.Client, name: str) -> httpx.Response:
    token = client.get("/signin").cookies["csrftoken"]
    form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": token}
    return client.post("/signin", data=form, headers={"Referer": f"{client.base_url}/signin"})


PAGES: Final = (
    *("/home", "/chat", "/models", "/jobs", "/usage", "/keys"),
    *("/queue", "/profile", "/teams", "/admin/"),
)


def test_session_is_good_in_both_webs(site: Site) -> None:
    ports = site.processes.ports
    forwarded = {"Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-For": CLIENT}
    with site.client(headers={"Authorization": ""}) as client:
        del client.headers["Authorization"]
        assert sign_in(client, "alice").status_code == 302
        session = client.cookies["ollamasite_session"]
        statuses = {path: client.get(path).status_code for path in PAGES}
    for name in ("web-1", "web-2", "web-1"):
        address = f"http://127.0.0.1:{ports[name]}/home"
        cookie = {"Cookie": f"ollamasite_session={session}"}
        page = httpx.get(address, headers=forwarded | cookie, timeout=LIMIT_S)
        assert page.status_code == 200, name

    assert statuses == dict.fromkeys(statuses, 200)


# ------------------------------------------------------------------ restarts


@dataclass
class Load:
    """Clients that ask all the time, and what went wrong for them."""

    site: Site
    failures: list[str] = field(default_factory=list)
    answers: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        kinds = (self._short, self._short, self._whole, self._streams, self._streams, self._says)
        self._threads = [threading.Thread(target=self._ask, args=(kind,)) for kind in kinds]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), "a client waits for ever"

    def grow(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        wanted = self.answers + count
        wait_for(lambda: self.answers >= wanted or bool(self.failures), LIMIT_S)

    def _ask(self, kind: Callable[[httpx.Client], str]) -> None:
        # A client that does not connect again each time is the harder case, and so are two kinds.
        with self.site.client() as client:
            while not self._is_over.is_set():
                began_s = time.monotonic()
                try:
                    problem = kind(client)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is a lost request
                    problem = repr(error)
                if problem:
                    after_s = time.monotonic() - began_s
                    self.failures.append(f"{kind.__name__} after {after_s:.1f} s: {problem}")
                self.answers += 1
                # Asking without a breath, they would take the processor from what is to start.
                self._is_over.wait(PAUSE_S)

    def _short(self, client: httpx.Client) -> str:
        answers = [client.get("/api/version"), client.get("/api/tags"), client.get("/signin")]
        answers.append(client.post("/api/show", json={"model": MODEL}))
        bad = [answer for answer in answers if answer.status_code != 200]
        return " ".join(f"{answer.status_code} {answer.text[:200]}" for answer in bad)

    def _whole(self, client: httpx.Client) -> str:
        body = {"model": MODEL, "prompt": "a", "stream": False, "options": {"num_predict": 8}}
        answer = client.post("/api/generate", json=body)
        return "" if answer.status_code == 200 and answer.json()["done"] else answer.text

    def _streams(self, client: httpx.Client) -> str:
        body: dict[str, Any] = {"model": MODEL, "stream": True, "max_tokens": 60}
        body |= {"messages": [{"role": "user", "content": "hello"}], "logit_bias": {"2": -100}}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            text = answer.read().decode()
        return "" if answer.status_code == 200 and "[DONE]" in text else text[-300:]

    def _says(self, client: httpx.Client) -> str:
        del client
        frames: list[dict[str, Any]] = []
        try:
            with self.site.socket("ws/chat") as socket:
                frames.extend(ask_on_socket(socket, "a", 30))
        except ConnectionClosed as closed:
            # The process goes, and had nothing to say here: ask again on a new socket.
            is_sent_on = closed.rcvd is not None and closed.rcvd.code == 1012
            return "" if is_sent_on and not frames else repr(closed)
        return "" if frames[-1]["type"] == "done" else str(frames[-1])


@pytest.mark.parametrize("name", ["web-1", "web-2", "worker", "inference"])
def test_no_request_is_lost_by_a_restart(site: Site, name: str) -> None:
    processes = site.processes
    # One that is told to go while it still starts has no handler yet, and its exit code says so.
    wait_for(lambda: processes.is_healthy(name), LIMIT_S)
    with Load(site) as load:
        load.grow(10)
        code = processes.stop(name)
        load.grow(5 if name != "inference" else 0)
        processes.start(name)
        wait_for(lambda: processes.is_healthy(name), LIMIT_S)
        load.grow(15)

    assert load.failures == []
    assert code == 0


@pytest.mark.parametrize(("signal", "seed"), [("SIGTERM", 1), ("SIGQUIT", 2)])
def test_job_goes_on_while_its_worker_is_restarted(
    site: Site, registry: FakeRegistry, tmp_path: Path, signal: str, seed: int
) -> None:
    # SIGTERM waits for it; SIGQUIT is what is done when the drain time is over.
    path = write_tiny_model(tmp_path / "slow.gguf", seed=seed)
    name = f"them/{signal.lower()}"
    manifest = registry.add_model(name, path.read_bytes())
    registry.pause_s = 0.5
    told: list[dict[str, Any]] = []
    pulled = {"model": f"http://{registry.host}/{name}"}

    def pull() -> None:
        with site.client() as client, client.stream("POST", "/api/pull", json=pulled) as answer:
            told.extend(json.loads(line) for line in answer.iter_lines())

    thread = threading.Thread(target=pull)
    thread.start()
    digest = manifest["layers"][0]["digest"]
    wait_for(lambda: bool(registry.gets_of(digest)), LIMIT_S)
    site.processes.stop("worker", signal)
    site.processes.start("worker")
    thread.join(LIMIT_S)

    assert told[-1] == {"status": "success"}, told[-3:]
    assert [line for line in told if "error" in line] == []


def frames_of(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    while True:
        yield json.loads(socket.recv(LIMIT_S))


@dataclass(frozen=True, slots=True)
class ChatPage:
    """What the chat page does, for somebody who has signed in."""

    site: Site
    session: str

    def socket(self) -> ClientConnection:
        origin = {"Origin": self.site.url, "Cookie": f"ollamasite_session={self.session}"}
        return self.site.socket("ws/chats", origin)

    def ask(self, socket: ClientConnection) -> str:
        """Ask for a long answer; return its message when it has words."""
        # Seconds long where nothing else runs, and over before the drain is elsewhere.
        options = ENDLESS | {"num_predict": 4000}
        asked = {"type": "ask", "id": "q", "model": MODEL, "text": "hello", "options": options}
        socket.send(json.dumps(asked))
        frames = frames_of(socket)
        started = next(frames)
        assert started["type"] == "started", started
        next(frame for frame in frames if frame["type"] == "growth" and frame["version"] > 20)
        return str(started["message"])

    def follow(self, socket: ClientConnection, message: str) -> Iterator[dict[str, Any]]:
        """Follow an answer from its beginning to its end; yield what is told."""
        socket.send(json.dumps({"type": "follow", "id": "f", "message": message, "version": 0}))
        for frame in frames_of(socket):
            yield frame
            if frame["type"] in {"ended", "error"}:
                return

    def row(self, message: str) -> tuple[str, str]:
        """Return an answer's state and text as they are stored."""
        wanted = "SELECT state, text FROM models_app_chatmessage WHERE message_id = %s"
        with self.site.processes.database() as database:
            row = database.execute(wanted, [message]).fetchone()
        assert row
        return row[0], row[1]


def session_of(site: Site, name: str) -> str:
    with site.client(headers={"Authorization": ""}) as client:
        del client.headers["Authorization"]
        assert sign_in(client, name).status_code == 302
        return client.cookies["ollamasite_session"]


def test_answer_of_the_chat_page_outlives_its_web(site: Site) -> None:
    webs = ("web-1", "web-2")
    page, processes = ChatPage(site, session_of(site, "alice")), site.processes
    wait_for(lambda: not any(map(processes.connections_of, webs)), LIMIT_S)
    with page.socket() as first:
        [serving] = [name for name in webs if processes.connections_of(name)]
        message = page.ask(first)
        wait_for(lambda: len(page.row(message)[1]) > 100, LIMIT_S)
        _, before = page.row(message)
        stopping = threading.Thread(target=processes.stop, args=(serving,))
        with ExitStack() as pause:
            pause.enter_context(processes.no_answer_goes_on())
            stopping.start()
            with pytest.raises(ConnectionClosed) as closed:
                for frame in frames_of(first):
                    assert frame["type"] == "growth"
            state_there, _ = page.row(message)
            with page.socket() as second:  # at the other one
                following = page.follow(second, message)
                told = [next(following)]
                pause.close()
                told += following
                again = list(page.follow(second, message))
    stopping.join(LIMIT_S)
    processes.start(serving)
    wait_for(lambda: processes.is_healthy(serving), LIMIT_S)
    state, text = page.row(message)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert state_there == "running", "it was too short to be followed"
    assert {frame["type"] for frame in told[:-1]} == {"growth"}
    assert (told[-1]["type"], told[-1]["state"], told[-1]["error"]) == ("ended", "done", None)
    assert [frame["html"] for frame in again] == [told[-1]["html"]]
    assert (state, text[: len(before)]) == ("done", before)
