"""What web adds: the real web process over a scripted node that computes nothing.

Every token says when the node made it, so the way from node to client is measured token by token,
and a lost, doubled or swapped one is seen. Knows no engine.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from bench import figures, load, processes, report
from bench.chat import Answer, Question, Target, ask
from bench.load import LoadError, Worker
from bench.processes import Process
from bench.servers import Shape, SiteModel, answers, prepare, site_environment
from bench.workplace import MODELS, PLACE
from ollamasite.data_dir import run_dir

STREAMS: Final = 500
TOKENS_PER_S: Final = 20
_USER: Final = "overhead"
_MODEL: Final = "scripted"
_SEQUENTIAL_ASKS: Final = 100
_TOGETHER: Final = 64
# Streams are opened more slowly than web could, so that it is not this which is measured.
_CALM: Final = 1.5
_WINDOW_S: Final = 8.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """CPU used while all streams were open, in CPUs (1.0 is one whole core)."""

    web: float
    node: float
    client: float
    web_per_token_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyStreams:
    """What many streams at once came to. `lag_s` is p50 and p99 of node to client."""

    streams: int
    tokens: int
    lost: int
    lag_s: tuple[float, float]
    cpu: CpuUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Times in seconds, each p50 and p99."""

    ttft_alone_s: tuple[float, float]
    ttft_together_s: tuple[float, float]
    lag_alone_s: tuple[float, float]
    request_cpu_s: float  # of web, a request of two tokens
    many: ManyStreams


class WebOverScript:
    """The web process as `serve` starts it, and the scripted node behind it."""

    def __init__(self, profile: Path | None = None) -> None:
        data_dir = PLACE / "site-overhead"
        shutil.rmtree(data_dir, ignore_errors=True)
        environment = site_environment(data_dir, Shape(slots=1, window_tokens=2048))
        environment["OLLAMASITE_LOG_LEVEL"] = "WARNING"
        keys = prepare(data_dir, environment, [SiteModel(_MODEL, MODELS[0])], [_USER])
        port = processes.free_port()
        self.target = Target(port=port, model=_MODEL, key=keys[_USER])
        self._socket = run_dir(data_dir) / "engine.sock"
        node = [sys.executable, "-m", "bench.scripted_node", str(self._socket)]
        self.node = Process([*node, str(TOKENS_PER_S)], PLACE / "logs" / "scripted-node.log")
        profiled = ["-m", "cProfile", "-o", str(profile)] if profile else []
        web_argv = [sys.executable, *profiled, "-m", "ollamasite", "web", "--port", str(port)]
        self.web = Process(web_argv, PLACE / "logs" / "overhead-web.log", environment)

    def wait_until_ready(self) -> None:
        """Wait for both. Raises ProcessError."""
        self.node.wait_until(self._socket.exists)
        self.web.wait_until(lambda: answers(self.target.port, "/healthz"))

    def stop(self) -> None:
        """End both."""
        self.web.stop()
        self.node.stop()


def measure(streams: int = STREAMS, profile: Path | None = None) -> Overhead:
    """Measure. Raises ProcessError, LoadError."""
    over = WebOverScript(profile)
    try:
        over.wait_until_ready()
        report.log("web over a scripted node: one request at a time")
        before_s = processes.cpu_s([over.web.pid])
        alone = _run([_worker(over, asks=_SEQUENTIAL_ASKS, tokens=2)])
        request_cpu_s = (processes.cpu_s([over.web.pid]) - before_s) / len(alone)
        slow = _run([_worker(over, asks=3, tokens=TOKENS_PER_S)])
        report.log(f"web over a scripted node: {_TOGETHER} requests at a time")
        together = _run([_worker(over, asks=4, tokens=TOKENS_PER_S) for _ in range(_TOGETHER)])
        report.log(f"web over a scripted node: {streams} streams")
        many = _many(over, streams, ramp_s=_CALM * streams * _seconds_per_request(together))
    finally:
        over.stop()
    return Overhead(
        ttft_alone_s=_p50_p99([answer.first_s for answer in alone]),
        ttft_together_s=_p50_p99([answer.first_s for answer in together]),
        lag_alone_s=_p50_p99(_lags_s(slow)),
        request_cpu_s=request_cpu_s,
        many=many,
    )


def _seconds_per_request(given: Sequence[Answer]) -> float:
    """Return how often a request was begun while as many as possible were open."""
    begun_ns = sorted(answer.arrivals_ns[0] for answer in given)
    first_wave = begun_ns[:_TOGETHER]
    return (first_wave[-1] - min(answer.sent_ns for answer in given)) / len(first_wave) / 1e9


def _many(over: WebOverScript, streams: int, ramp_s: float) -> ManyStreams:
    # The first stream shall still be open when the window of the last one ends.
    tokens_each = round((_CALM * ramp_s + _WINDOW_S) * TOKENS_PER_S)
    given = [Answer() for _ in range(streams)]
    window = _Window(over)
    uvloop.run(_open_streams(over, given, tokens_each, window, ramp_s))
    failures = [answer.failure for answer in given if answer.failure]
    if failures:
        raise LoadError(f"{len(failures)} of {streams} streams failed: {failures[0]}")
    return ManyStreams(
        streams=streams,
        tokens=sum(len(answer.pieces) for answer in given),
        lost=sum(lost_tokens(answer, tokens_each) for answer in given),
        lag_s=_p50_p99(_lags_s(given, window.begin_ns, window.end_ns)),
        cpu=window.cpu(load.pieces_between(given, window.begin_ns, window.end_ns)),
    )


class _Window:
    """CPU time between two moments, while all streams are open."""

    def __init__(self, over: WebOverScript) -> None:
        self._over = over
        self.begin_ns = self.end_ns = 0
        self._before: tuple[float, float, float] = (0.0, 0.0, 0.0)
        self._after = self._before

    def begin(self) -> None:
        self.begin_ns, self._before = time.monotonic_ns(), self._used()

    def end(self) -> None:
        self.end_ns, self._after = time.monotonic_ns(), self._used()

    def cpu(self, tokens: int) -> CpuUse:
        lasted_s = (self.end_ns - self.begin_ns) / 1e9
        web, node, client = (
            after - before for before, after in zip(self._before, self._after, strict=True)
        )
        return CpuUse(
            web=web / lasted_s,
            node=node / lasted_s,
            client=client / lasted_s,
            web_per_token_us=web / tokens * 1e6,
        )

    def _used(self) -> tuple[float, float, float]:
        web = processes.cpu_s([self._over.web.pid])
        return web, processes.cpu_s([self._over.node.pid]), time.process_time()


async def _open_streams(
    over: WebOverScript, given: Sequence[Answer], tokens: int, window: _Window, ramp_s: float
) -> None:
    """Open one stream for each answer, little by little, and watch while all are open."""
    tasks = []
    for answer in given:
        answer.sent_ns = time.monotonic_ns()
        tasks.append(asyncio.create_task(ask(over.target, _question(tokens), answer)))
        await asyncio.sleep(ramp_s / len(given))
    while not all(answer.arrivals_ns or answer.is_complete for answer in given):  # noqa: ASYNC110 - data, no event
        await asyncio.sleep(_POLL_S)
    window.begin()
    await asyncio.sleep(_WINDOW_S)
    window.end()
    await asyncio.gather(*tasks)


def _worker(over: WebOverScript, *, asks: int, tokens: int) -> Worker:
    return Worker(over.target, [_question(tokens)] * asks)


def _question(tokens: int) -> Question:
    return Question(({"role": "user", "content": "Count."},), tokens)


def _run(workers: Sequence[Worker]) -> list[Answer]:
    found = uvloop.run(load.run(workers))
    given = [answer for each in found for answer in each]
    for answer in given:
        if lost_tokens(answer, answer.completion_tokens):
            raise LoadError(f"tokens were lost: {''.join(answer.pieces)[:200]}")
    return given


def lost_tokens(answer: Answer, expected: int) -> int:
    """Return how many of a scripted answer's tokens are missing or not in their place."""
    numbers = [int(token.partition(":")[0]) for token in "".join(answer.pieces).split()]
    in_place = sum(number == index for index, number in enumerate(numbers))
    return max(expected, len(numbers)) - in_place


def _lags_s(given: Sequence[Answer], begin_ns: int = 0, end_ns: int | None = None) -> list[float]:
    """Return how long each piece took from the node; of a piece of several tokens, the first."""
    return [
        (arrived_ns - int(piece.split()[0].partition(":")[2])) / 1e9
        for answer in given
        for piece, arrived_ns in zip(answer.pieces, answer.arrivals_ns, strict=True)
        if begin_ns <= arrived_ns and (end_ns is None or arrived_ns < end_ns)
    ]


def _p50_p99(values: Sequence[float]) -> tuple[float, float]:
    return figures.median(values), figures.percentile(values, 99)


def to_markdown(found: Overhead) -> str:
    """Return the table."""
    many = found.many
    rows = [
        _row("TTFT, one request at a time", found.ttft_alone_s),
        _row(f"TTFT, {_TOGETHER} at a time (target: p99 ≤ 10)", found.ttft_together_s),
        _row("a token's way from node to client, one stream", found.lag_alone_s),
        _row(f"the same with {many.streams} streams", many.lag_s),
    ]
    table = report.table(("added by web, ms", "p50", "p99"), rows)
    verdict = "met" if many.lost == 0 else "**missed**"
    return (
        f"{table}\n\nA request costs web {report.milliseconds(found.request_cpu_s)} ms of CPU. "
        f"{many.streams} open streams at {TOKENS_PER_S} tokens/s each: {many.tokens} "
        f"tokens, {many.lost} lost (target: 0, {verdict}). Meanwhile web used "
        f"{many.cpu.web:.2f} CPUs ({many.cpu.web_per_token_us:.0f} µs a token), the scripted "
        f"node {many.cpu.node:.2f} and the measuring client {many.cpu.client:.2f}."
    )


def _row(name: str, pair: tuple[float, float]) -> list[str]:
    return [name, *(report.milliseconds(seconds) for seconds in pair)]
