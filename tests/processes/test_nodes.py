"""Two machines more: they join a running site over TLS, one is killed under load, one is drained.

The site's own node has no memory for the model, so whatever is answered comes from theirs.
"""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.databases import database_settings
from tests.gguf_files import write_tiny_model
from tests.processes.running_site import RunningSite, free_port, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(400)]

MODEL = "smollm2:135m"
USERS = 16
# Tokens of a window that takes more than SITE has, for a model of half a MB.
WIDE = 65536
sent: list[str] = []  # how each request has ended
SITE = {"OLLAMASITE_MEMORY_LIMIT": "20MB", "OLLAMASITE_RUNNER_SPIN": "1000"}


class Machine:
    """One `ollamasite node` on a port of its own."""

    def __init__(self, site: RunningSite, folder: Path, name: str) -> None:
        self.name = name
        self.data_dir = folder / name
        self._site = site
        self._token_file = folder / f"{name}.token"
        self._token_file.write_text(manage(site, "node-token", name))
        self._log = folder / f"{name}.log"
        self._port = free_port()
        self.start()

    def start(self) -> None:
        options = ["--listen", f"127.0.0.1:{self._port}", "--data-dir", str(self.data_dir)]
        options += ["--token-file", str(self._token_file), "--parallel", "2", "--threads", "1"]
        environ = {n: v for n, v in os.environ.items() if not n.startswith("OLLAMASITE_")}
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ollamasite", "node", "--site", self._site.url, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_until_joined(self, count: int = 1) -> None:
        wait_for(lambda: self.output.count("has joined") >= count, 120.0)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(90)


def manage(site: RunningSite, *arguments: str) -> str:
    environ = {n: v for n, v in os.environ.items() if not n.startswith("OLLAMASITE_")}
    environ |= database_settings(site.data_dir) | {"OLLAMASITE_DATA_DIR": str(site.data_dir)}
    command = [sys.executable, "-m", "ollamasite", *arguments]
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    running = RunningSite(tmp_path_factory.mktemp("nodes") / "site", settings=SITE)
    try:
        running.wait_until_started()
        yield running
    finally:
        running.clean_up()


@pytest.fixture(scope="module")
def machines(site: RunningSite) -> Iterator[list[Machine]]:
    folder = site.data_dir.parent
    both = [Machine(site, folder, name) for name in ("gpu1", "gpu2")]
    try:
        for machine in both:
            machine.wait_until_joined()
        yield both
    finally:
        for machine in both:
            if machine.process.poll() is None:
                machine.stop()


def asked(number: int, words: int = 12) -> dict[str, Any]:
    options = {"num_predict": words, "num_ctx": 256, "seed": number}
    if words > 100:  # to be cut off: the model counts for ever, whatever else it may do
        options |= {"temperature": 0, "num_ctx": 1024}
        prompt = f"{number}, {number + 1}, {number + 2},"
        return {"model": MODEL, "prompt": prompt, "raw": True, "stream": True, "options": options}
    return {"model": MODEL, "prompt": f"Number {number}", "stream": True, "options": options}


async def generate(
    client: httpx2.AsyncClient, number: int, words: int = 12, heard: Counter[int] | None = None
) -> str:
    """Return how a streamed request ended: "done", or the error it was told.

    `heard` counts its lines by its number.
    """
    ends = []
    try:
        async with client.stream("POST", "/api/generate", json=asked(number, words)) as answer:
            async for line in answer.aiter_lines():
                if heard is not None:
                    heard[number] += 1
                if '"done":true' in line:
                    ends.append("done")
                elif '"error"' in line:
                    ends.append(line)
    except httpx2.HTTPError as error:
        ends.append(f"broken: {error!r}")
    assert len(ends) == 1, ends
    sent.append(ends[0])
    return ends[0]


def client_of(site: RunningSite) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {site.api_key}"}
    limits = httpx2.Limits(max_connections=2 * USERS)
    return httpx2.AsyncClient(base_url=site.url, headers=headers, timeout=200, limits=limits)


async def test_nodes_from_their_joining_to_their_end(
    site: RunningSite, machines: list[Machine]
) -> None:
    """One after the other: each step finds what the one before has left."""
    await a_node_fetches_the_model_and_answers(site, machines)
    await what_does_not_fit_here_when_measured_is_loaded_there(site)
    await a_web_process_is_killed_and_the_nodes_know_what_was_used(site, machines)
    await a_node_is_killed_under_load(site, machines)
    await a_drained_node_becomes_empty(site, machines)
    await the_ledger_has_every_request_once(site)
    await a_node_that_stops_gives_its_requests_to_the_other(site, machines)


async def a_node_fetches_the_model_and_answers(site: RunningSite, machines: list[Machine]) -> None:
    async with client_of(site) as client:
        assert await generate(client, 1) == "done"
        loaded = (await client.get("/api/ps")).json()["models"]
    assert [model["name"] for model in loaded] == [MODEL]
    assert any("is loaded" in machine.output for machine in machines)
    assert "is loaded" not in site.output  # not by the site's own node


async def what_does_not_fit_here_when_measured_is_loaded_there(site: RunningSite) -> None:
    """Its files would fit by far; its window does not."""
    path = write_tiny_model(site.data_dir.parent / "wide.gguf", context_length=WIDE)
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with client_of(site) as client:
        assert (await client.post(f"/api/blobs/{digest}", content=data)).status_code == 201
        created = {"model": "wide", "files": {"wide.gguf": digest}, "stream": False}
        assert (await client.post("/api/create", json=created)).json() == {"status": "success"}
        options = {"num_predict": 2, "num_ctx": WIDE}
        asked = {"model": "wide", "prompt": "a", "stream": False, "options": options}
        answer = (await client.post("/api/generate", json=asked)).json()
        assert answer.get("done"), answer
        sent.append("done")
        await client.post("/api/generate", json={"model": "wide", "keep_alive": 0})
        sent.append("done")
    assert "model requires more system memory" in site.output
    assert "is loaded" not in site.output


async def a_node_is_killed_under_load(site: RunningSite, machines: list[Machine]) -> None:
    first, _second = machines
    async with client_of(site) as client:
        # Both have the model.
        warm = await asyncio.gather(*(generate(client, n, 24) for n in range(USERS)))
        assert Counter(warm) == {"done": USERS}
        load = [asyncio.create_task(generate(client, n, 48)) for n in range(USERS)]
        await asyncio.sleep(1.0)
        os.killpg(first.process.pid, signal.SIGKILL)
        first.process.wait(30)
        ends = await asyncio.gather(*load)
        broken = [end for end in ends if end != "done"]
        # What ran on it is told so, once; what waited is answered by the other.
        assert len(broken) <= 2, broken
        assert all("connection to the inference service was lost" in end for end in broken)
        # The queue goes on.
        assert await generate(client, 1) == "done"
        first.start()
        first.wait_until_joined(2)
        # It is back: web processes look for it every few seconds.
        async with asyncio.timeout(120):
            while "of request" not in first.output.rpartition("has joined")[2]:
                assert await generate(client, 1) == "done"
                await asyncio.gather(*(generate(client, n) for n in range(6)))


async def a_drained_node_becomes_empty(site: RunningSite, machines: list[Machine]) -> None:
    _first, second = machines
    manage(site, "nodes", "drain", "gpu2")
    async with client_of(site) as client, asyncio.timeout(60):
        # Web hears of it within seconds. More at once than one node answers.
        before = -1
        while second.output.count("of request") != before:
            before = second.output.count("of request")
            ends = await asyncio.gather(*(generate(client, number) for number in range(6)))
            assert set(ends) == {"done"}
    wait_for(lambda: "is stopped: it was idle" in second.output, 60.0)
    assert "gpu2  draining" in manage(site, "nodes")
    manage(site, "nodes", "uncordon", "gpu2")


def rows(site: RunningSite) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(manage(site, "ledger", "export", "--json"))
    return found


def has_counted(site: RunningSite) -> bool:
    """Whether the ledger has all that were sent; asks web, for a command takes a second."""
    headers = {"authorization": f"Bearer {site.api_key}"}
    with httpx2.Client(base_url=site.url, headers=headers, timeout=60) as client:
        total = client.get("/api/usage?all=1").json()["total"]
    return bool(total["requests"] >= len(sent))


def ends_of(machine: Machine) -> list[tuple[int, int, int]]:
    """Return the tokens in and out and the microseconds of all that has ended on a node."""
    path = machine.data_dir / "engine" / "ends.jsonl"
    lines = path.read_text().split() if path.exists() else []
    usages = [json.loads(line)["usage"] for line in lines]
    names = ("prompt_tokens", "completion_tokens", "compute_ns")
    told = [tuple(usage.get(name, 0) for name in names) for usage in usages]
    return [(tokens_in, tokens_out, ns // 1000) for tokens_in, tokens_out, ns in told]


async def a_web_process_is_killed_and_the_nodes_know_what_was_used(
    site: RunningSite, machines: list[Machine]
) -> None:
    heard: Counter[int] = Counter()
    async with client_of(site) as client:
        # As many as one node answers at once. One that web has not read yet leaves no row.
        load = [asyncio.create_task(generate(client, n, 600, heard)) for n in range(2)]
        async with asyncio.timeout(120):
            while min(heard[number] for number in range(2)) < 5:
                await asyncio.sleep(0.02)
        os.kill(site.pid_of("web"), signal.SIGKILL)
        broken = [end for end in await asyncio.gather(*load) if end != "done"]
        assert broken
        assert all(end.startswith("broken") for end in broken), broken
        async with asyncio.timeout(90):
            while not await is_ready(client):
                await asyncio.sleep(0.1)
    wait_for(lambda: has_counted(site), 120.0)
    lost = [row for row in rows(site) if row["outcome"] == "lost"]
    known = {"gpu1": ends_of(machines[0]), "gpu2": ends_of(machines[1])}
    assert len(lost) == len(broken)
    assert max(row["tokens_out"] for row in lost) >= 4
    for row in lost:
        used = (row["tokens_in"], row["tokens_out"], row["compute_us"])
        assert used in known[row["node"]]


async def is_ready(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx2.HTTPError:
        return False


async def the_ledger_has_every_request_once(site: RunningSite) -> None:
    wait_for(lambda: has_counted(site), 60.0)
    found = rows(site)
    assert len(found) == len(sent)
    assert {row["node"] for row in found} == {"gpu1", "gpu2"}
    assert sum(row["outcome"] == "done" for row in found) == sent.count("done")


async def a_node_that_stops_gives_its_requests_to_the_other(
    site: RunningSite, machines: list[Machine]
) -> None:
    first, _second = machines
    async with client_of(site) as client:
        load = [asyncio.create_task(generate(client, n, 24)) for n in range(8)]
        await asyncio.sleep(1.0)
        await asyncio.to_thread(first.stop)
        assert Counter(await asyncio.gather(*load)) == {"done": 8}
