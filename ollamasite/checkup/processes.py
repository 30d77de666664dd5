"""The processes of the site on this machine: what runs, what answers, what has been left."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from inference import probe
from inference.dialling import RemoteNode
from models_app import job_lists, ledger_journal, nodes
from models_app.nodes import Enrolled
from ollamasite.celery import app
from ollamasite.checkup import redis
from ollamasite.checkup.findings import Finding, error, note, warning
from ollamasite.listening import address, serve_runs
from ollamasite.self_probe import SelfProbe

_ANSWER_S: Final = 5.0
# The first who answers is enough, so only where nobody does is all of it waited for.
_WORKER_ANSWERS_S: Final = 10.0
# Whoever works at a job says so every second; after 15 s others take it up.
_SILENT: Final = timedelta(seconds=60)
_WAITS_LONG: Final = timedelta(minutes=10)
_LEFT_S: Final = 180.0
# Between two machines that NTP looks after it is milliseconds.
_SKEW_S: Final = 5.0


def look_at_redis() -> Iterator[Finding]:
    """Tell what is wrong with Redis; `serve` starts one of its own, which ends with it."""
    is_own = f"unix://{settings.REDIS_SOCKET}" == settings.REDIS_URL
    if is_own and not serve_runs():
        yield note("redis.not-started", "Redis was not looked at: `ollamasite serve` does not run.")
        return
    yield from redis.look()


def look_at_engine() -> Iterator[Finding]:
    """Tell whether this machine's node answers."""
    path = Path(settings.ENGINE_SOCKET)
    if not path.exists() and not serve_runs():
        yield note("engine.not-started", "No inference process runs on this machine.")
        return
    try:
        asyncio.run(probe.greet(path, timeout_s=_ANSWER_S))
    except probe.NodeProblem as problem:
        yield error(
            "engine.unusable",
            f"The inference process cannot be used at {path}: {problem}.",
            "Look at the log of `ollamasite inference`, and restart it.",
        )


def look_at_nodes() -> Iterator[Finding]:
    """Tell which nodes on other machines cannot be used, and whose clocks are not ours."""
    enrolled = nodes.enrolled()
    for node, answer in zip(enrolled, asyncio.run(_greet_all(enrolled)), strict=True):
        if isinstance(answer, probe.Greeting):
            yield from _clock_of(node, answer)
        else:
            yield error(
                "node.lost",
                f"The node {node.name} cannot be used at {node.host}:{node.port}: {answer}.",
                "See that `ollamasite node` runs there in this program's version and that a "
                "firewall lets this machine through, or take it out (`ollamasite nodes remove`).",
            )


async def _greet_all(enrolled: Sequence[Enrolled]) -> list[probe.Greeting | probe.NodeProblem]:
    return await asyncio.gather(*(_greet(node) for node in enrolled))


async def _greet(node: Enrolled) -> probe.Greeting | probe.NodeProblem:
    where = RemoteNode(node.name, node.host, node.port, node.fingerprint, node.secret)
    try:
        return await probe.greet(where, timeout_s=_ANSWER_S)
    except probe.NodeProblem as problem:
        return problem


def _clock_of(node: Enrolled, answer: probe.Greeting) -> Iterator[Finding]:
    if answer.ahead_s is None or abs(answer.ahead_s) - answer.doubt_s < _SKEW_S:
        return
    way = "ahead of" if answer.ahead_s > 0 else "behind"
    yield warning(
        "node.clock",
        f"The clock of the node {node.name} is {abs(answer.ahead_s):.0f} s {way} this machine's: "
        "lines of their logs cannot be laid side by side, and the site's certificate may look "
        "expired there.",
        "Have NTP set the clocks of both machines.",
    )


def look_at_web() -> Iterator[Finding]:
    """Tell whether this machine's web process answers."""
    site = SelfProbe(*address())
    if asyncio.run(site.answers()):
        return
    if serve_runs():
        yield error(
            "web.silent",
            f"The web process does not answer at {site.url}.",
            "Look at its log, and restart it.",
        )
    else:
        yield note("web.not-started", f"No web process answers at {site.url}.")


def look_at_worker() -> Iterator[Finding]:
    """Tell whether somebody does the jobs."""
    try:
        answers = app.control.ping(timeout=_WORKER_ANSWERS_S, limit=1)
    except (RedisError, OperationalError, OSError):
        yield note("worker.unknown", "Whether a worker runs cannot be told without Redis.")
        return
    if not answers:
        yield error(
            "worker.silent",
            "No worker answers: pulls, creates and garbage collection wait.",
            "Start `ollamasite worker`, or look at its log.",
        )


def look_at_jobs() -> Iterator[Finding]:
    """Tell of jobs that nobody does."""
    now = timezone.now()
    left = job_lists.left_alone(silent_since=now - _SILENT, queued_before=now - _WAITS_LONG)
    if left.silent:
        yield error(
            "jobs.silent",
            f"Running jobs that nobody has heard of for a minute: {left.silent}.",
            "See that a worker runs: it takes them up again.",
        )
    if left.waiting and not left.running:
        yield error(
            "jobs.waiting",
            f"Jobs that have waited for more than ten minutes while none runs: {left.waiting}.",
            "See that a worker runs and reaches Redis and the database.",
        )


def look_at_journals() -> Iterator[Finding]:
    """Tell of requests that are not in the ledger though their web process is gone."""
    left = [
        path
        for path in Path(settings.LEDGER_DIR).glob(ledger_journal.PATTERN)
        if path.stat().st_mtime < time.time() - _LEFT_S and _is_nobodys(path)
    ]
    if left:
        yield warning(
            "ledger.left",
            "Journals of web processes that are gone and that are not in the ledger yet: "
            f"{len(left)}, such as {left[0].name}.",
            "A worker or web process with this data directory writes them within a minute.",
        )


def _is_nobodys(path: Path) -> bool:
    left = ledger_journal.LeftJournal.take(path)
    if left is None:
        return False
    left.close()
    return True
