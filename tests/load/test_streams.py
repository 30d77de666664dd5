"""500 streams at once through two web processes: every token once, in its place, and few threads.

The node, its scheduler and web are the real ones; the runner is scripted (`scripted_runner`), and
holds every answer after its first token until all 500 have begun.
"""

import asyncio
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.load.site import MODEL, LoadSite, Web
from tests.processes.running_site import wait_for

# Runs beside other tests: what is counted is its own, and times have room.
pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(600)]

STREAMS = 500
TOKENS = 40
RATE = 4.0  # tokens a second of each
# Of a machine that does nothing else 0.1 s; of one that does eight other things, so much.
LAG_S = 10.0
WEB_THREADS = 20
# Those, the one for WebSockets and watching, and the ledger's.
CONNECTIONS = WEB_THREADS + 2


@dataclass
class Heard:
    """What one client heard of one answer."""

    text: str = ""
    lags_s: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    usages: list[Any] = field(default_factory=list)
    dones: int = 0
    odd: list[bytes] = field(default_factory=list)

    def receive(self, line: bytes) -> None:
        now_ns = time.monotonic_ns()
        if line == b"data: [DONE]":
            self.dones += 1
            return
        if not line.startswith(b"data: "):
            # Lines of the transfer encoding end with \r\n; nothing else may be between events.
            self.odd += [line] if line.rstrip(b"\r") == line != b"" else []
            return
        chunk = json.loads(line.removeprefix(b"data: "))
        if chunk.get("usage"):
            self.usages.append(chunk["usage"])
        for choice in chunk.get("choices", []):
            text = choice["delta"].get("content") or ""
            self.text += text
            self.lags_s += [(now_ns - int(token.split(":")[1])) / 1e9 for token in text.split()]
            if choice["finish_reason"]:
                self.reasons.append(choice["finish_reason"])

    @property
    def numbers(self) -> list[int]:
        return [int(token.split(":")[0]) for token in self.text.split()]


async def listen(port: int, key: str, heard: Heard) -> None:
    """Ask for an answer and hear it to the end of the connection."""
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Count."}],
            "max_tokens": TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    # As HTTP/1.0 the body is what comes until the end, in no chunks.
    head = (
        f"POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write((head + body).encode())
        status = await reader.readline()
        assert b" 200 " in status, status + await reader.read()
        while await reader.readline() != b"\r\n":
            pass
        while line := await reader.readline():
            heard.receive(line.rstrip(b"\n"))
    finally:
        writer.close()


@dataclass
class Seen:
    """What there was while all streams were open."""

    threads: list[int]
    connections: int
    memory_mib: list[float]


@dataclass
class Run:
    """One run: what was heard, and what the processes held before and meanwhile."""

    heard: list[Heard]
    before_mib: list[float]
    open: Seen


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, LoadSite]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    settings = {"OLLAMASITE_NUM_PARALLEL": str(STREAMS), "OLLAMASITE_MAX_QUEUE": "1000"}
    site = LoadSite(tmp_path_factory.mktemp("l"), **settings)
    try:
        with site.node(rate=RATE, together=STREAMS), site.web(1) as one, site.web(2) as two:
            yield asyncio.run(_streams(site, [one, two])), site
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _streams(site: LoadSite, webs: list[Web]) -> Run:
    before_mib = [web.rss_mib for web in webs]
    heard = [Heard() for _ in range(STREAMS)]
    tasks = [
        asyncio.create_task(listen(webs[number % 2].port, site.key, one))
        for number, one in enumerate(heard)
    ]
    # Nobody's second token comes before everybody's first.
    while not all(one.text for one in heard) and not any(task.done() for task in tasks):
        await asyncio.sleep(0.1)
    seen = Seen(
        [web.threads for web in webs],
        await asyncio.to_thread(site.database_connections, webs),
        [web.rss_mib for web in webs],
    )
    await asyncio.gather(*tasks)
    return Run(heard, before_mib, seen)


def test_no_token_is_lost_doubled_or_swapped(run: tuple[Run, LoadSite]) -> None:
    wrong = [one.numbers for one in run[0].heard if one.numbers != list(range(TOKENS))]

    assert wrong == []


def test_every_stream_ends_once_and_well(run: tuple[Run, LoadSite]) -> None:
    for one in run[0].heard:
        assert (one.reasons, one.dones, one.odd) == (["length"], 1, [])
        assert [usage["completion_tokens"] for usage in one.usages] == [TOKENS]


def test_ledger_has_each_request_once_with_its_tokens(run: tuple[Run, LoadSite]) -> None:
    _, site = run

    wait_for(lambda: site.ledger() == (STREAMS, STREAMS * TOKENS), 180)


def test_streams_hold_no_threads_and_no_connections(run: tuple[Run, LoadSite]) -> None:
    found, _ = run

    assert found.open.connections <= 2 * CONNECTIONS
    # Others: resolvers, copies of files, the loop's own.
    assert max(found.open.threads) <= WEB_THREADS + 60


def test_event_loops_keep_up(run: tuple[Run, LoadSite]) -> None:
    lags_s = sorted(lag_s for one in run[0].heard for lag_s in one.lags_s)
    p50_s, p99_s = (lags_s[round(len(lags_s) * share)] for share in (0.5, 0.99))
    print(f"a token's way: p50 {p50_s * 1000:.0f} ms, p99 {p99_s * 1000:.0f} ms")  # noqa: T201

    assert p99_s < LAG_S


def test_stream_takes_little_memory(run: tuple[Run, LoadSite]) -> None:
    found, _ = run
    grown_mib = [
        after - before
        for before, after in zip(found.before_mib, found.open.memory_mib, strict=True)
    ]
    each_kib = sum(grown_mib) * 1024 / STREAMS
    print(  # noqa: T201
        f"{each_kib:.0f} KiB a stream; webs {found.before_mib} → {found.open.memory_mib} MiB; "
        f"threads {found.open.threads}, connections {found.open.connections}"
    )

    assert each_kib < 400
