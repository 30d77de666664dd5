"""Mixed load on the whole site for minutes, while the memory of every process is watched.

Writes .bench/soak.csv and .bench/soak.svg, and says how fast each process grows. Knows no engine.
"""

import asyncio
import csv
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import figures, processes, prompts, report, svg
from bench.chat import Answer, Question, ask, request_bytes
from bench.servers import Shape, Site, SiteModel
from bench.workplace import MODELS, PLACE

SAMPLE_S: Final = 5.0
# Until here caches fill and allocators settle; growth is counted from then on.
_SETTLED_SHARE: Final = 0.3
_SHAPE: Final = Shape(slots=8, window_tokens=2048)
_WORKERS: Final = 10
# Full before growth is counted: until then a runner grows as it should. And small, because states
# of up to 45 MB that come and go in a large one look like growth in ten minutes.
_SETTINGS: Final = {"OLLAMASITE_PREFIX_STORE": "16MiB"}
_MIB: Final = 2**20
_KINDS: Final = (
    ("redis-server", "redis"),
    ("inference.engine.runner", "runner"),
    ("ollamasite inference", "node"),
    ("ollamasite worker", "worker"),
    ("ollamasite web", "web"),
    ("ollamasite serve", "serve"),
)


@dataclass(slots=True)
class Soak:
    """Samples of resident memory in bytes: process → [(minute, bytes)], and what was asked."""

    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)

    def growth(self) -> dict[str, float]:
        """Return each process's growth in bytes a minute once it has settled."""
        return {
            name: figures.slope(*zip(*settled, strict=True))
            for name, samples in self.memory.items()
            if len(settled := samples[round(len(samples) * _SETTLED_SHARE) :]) > 1
        }

    def growing(self, most_mib_a_minute: float) -> list[str]:
        """Return the processes that grow by more than that."""
        return [
            f"{name} grows by {growth / _MIB:.2f} MiB a minute"
            for name, growth in self.growth().items()
            if growth > most_mib_a_minute * _MIB
        ]


def measure(minutes: float) -> Soak:
    """Run the load and watch. Raises ProcessError."""
    model = MODELS[0]
    users = [f"user{number}" for number in range(_WORKERS)]
    site = Site("soak", _SHAPE, [SiteModel(model.name, model)], users, _SETTINGS)
    try:
        site.start()
        site.load(model.name, users[0])
        return asyncio.run(_run(site, model.name, minutes * 60))
    finally:
        site.stop()


async def _run(site: Site, model: str, duration_s: float) -> Soak:
    soak = Soak()
    seeds = itertools.count()
    tasks = [
        asyncio.create_task(_work(site, model, f"user{number}", seeds, soak))
        for number in range(_WORKERS)
    ]
    begin_s = time.monotonic()
    while (passed_s := time.monotonic() - begin_s) < duration_s:
        for name, size_bytes in _memory(site).items():
            soak.memory.setdefault(name, []).append((passed_s / 60, size_bytes))
        await asyncio.sleep(SAMPLE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return soak


async def _work(
    site: Site, model: str, user: str, seeds: "itertools.count[int]", soak: Soak
) -> None:
    """Ask all kinds of things for ever."""
    target = site.target(model, user)
    for seed in seeds:
        kind = ("short", "long", "leaves", "whole", "wrong", "short")[seed % 6]
        match kind:
            case "whole":
                outcome = await _ask_whole(site, model, user, seed)
            case "wrong":
                outcome = await _send(site, b"GET /api/nothing HTTP/1.0\r\nHost: localhost\r\n\r\n")
            case _:
                answer = Answer()
                pieces = 3 if kind == "leaves" else None
                await ask(target, _question(kind, seed), answer, pieces_wanted=pieces)
                outcome = f"failed: {answer.failure[:60]}" if answer.failure else "answered"
        soak.outcomes[f"{kind}: {outcome}"] += 1


def _question(kind: str, seed: int) -> Question:
    if kind == "long":
        text = prompts.long_text(str(seed), 20 + seed % 100)
        return Question(({"role": "user", "content": text},), 16)
    return Question((prompts.short_question(str(seed)),), 16 + seed % 48)


async def _ask_whole(site: Site, model: str, user: str, seed: int) -> str:
    """Ask for an answer that is not streamed."""
    question = Question((prompts.short_question(str(seed)),), 24)
    return await _send(site, request_bytes(site.target(model, user), question, streams=False))


async def _send(site: Site, request: bytes) -> str:
    """Send bytes and return the status."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(request)
        status = (await reader.readline()).decode().split()
        await reader.read()
        writer.close()
    except OSError as error:
        return f"failed: {error}"
    return " ".join(status[1:2]) or "failed: no answer"


def _memory(site: Site) -> dict[str, int]:
    """Return the resident memory of each kind of process; of a kind with several, the sum."""
    sizes: Counter[str] = Counter()
    for pid in site.pids:
        command = processes.command_line(pid)
        name = next((name for mark, name in _KINDS if mark in command), "other")
        sizes[name] += processes.rss_bytes(pid)
    return {name: size for name, size in sizes.items() if size}


def write_files(soak: Soak, folder: Path = PLACE) -> None:
    """Write soak.csv and soak.svg."""
    with (folder / "soak.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("process", "minute", "rss_bytes"))
        for name, samples in soak.memory.items():
            rows.writerows((name, f"{minute:.3f}", round(size)) for minute, size in samples)
    lines = {
        name: [(minute, size / _MIB) for minute, size in samples]
        for name, samples in soak.memory.items()
    }
    graph = svg.line_graph("resident memory, MiB", "minutes", lines)
    (folder / "soak.svg").write_text(graph)


def to_markdown(soak: Soak, minutes: float) -> str:
    """Return the table."""
    growth = soak.growth()
    rows = [
        [
            name,
            f"{samples[0][1] / _MIB:.0f}",
            f"{max(size for _, size in samples) / _MIB:.0f}",
            f"{samples[-1][1] / _MIB:.0f}",
            f"{growth[name] / _MIB:+.3f}" if name in growth else "",
        ]
        for name, samples in soak.memory.items()
    ]
    head = ("process", "first MiB", "most MiB", "last MiB", "growth MiB/minute")
    asked = ", ".join(f"{what} {count}" for what, count in sorted(soak.outcomes.items()))
    return (
        f"{report.table(head, rows)}\n\n{minutes:g} minutes, {_WORKERS} users at once; growth is "
        f"the slope of the last {1 - _SETTLED_SHARE:.0%} of the time. Requests: {asked}."
    )
