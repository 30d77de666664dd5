"""kill -9 of each process of a site, one after the other, under the load of sixteen users."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry, fake_registry
from tests.faults.patience import AFTERWARDS_S, READY_S, REQUEST_S
from tests.faults.site import Faulty, assert_all_has_ended, faulty_site
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]


@pytest.fixture
def registry(tiny_gguf: Path) -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        registry.add_model("them/slow", tiny_gguf.read_bytes())
        registry.pause_s = 0.3
        yield registry


@pytest.fixture
def faulty(tmp_path: Path, registry: FakeRegistry) -> Iterator[Faulty]:
    settings = {"OLLAMASITE_ALLOWED_REGISTRIES": f"http://{registry.host}"}
    with faulty_site(tmp_path / "data", settings) as site:
        yield site


def pid_of(faulty: Faulty, victim: str) -> int:
    if victim in {"web", "worker", "inference"}:
        return faulty.site.pid_of(victim)
    wanted = {"runner": "inference.engine.runner", "redis": "redis-server"}[victim]
    return next(pid for pid, line in faulty.site.processes().items() if wanted in line)


def kill(faulty: Faulty, victim: str) -> float:
    """Kill a process; return how long the site took to be ready and each kind to be answered."""
    pid = pid_of(faulty, victim)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: pid not in faulty.site.processes())
    faulty.wait_until_ready()
    ready_s = time.monotonic() - began
    faulty.users.wait_for_answers(timeout_s=REQUEST_S)
    assert ready_s <= READY_S, f"{victim}: {ready_s:.1f} s"
    return ready_s


def test_every_request_ends_once_whatever_is_killed(faulty: Faulty, registry: FakeRegistry) -> None:
    """One test for all: what takes the time is starting processes."""
    took: dict[str, float] = {}
    with faulty.users.asking():
        faulty.users.wait_for_answers(of_each=2, timeout_s=2 * REQUEST_S)
        job = faulty.post("/api/jobs", {"kind": "pull", "model": f"{registry.host}/them/slow"})
        for victim in ("runner", "worker", "inference", "redis", "web"):
            took[victim] = kill(faulty, victim)
        faulty.users.wait_for_answers(of_each=2)
    print(took)  # noqa: T201 - shown with -s, and where the test fails
    print(faulty.users.summary())  # noqa: T201 - same
    job_path = f"/api/jobs/{job['id']}"
    wait_for(lambda: faulty.get(job_path)["state"] not in {"queued", "running"}, AFTERWARDS_S)
    assert faulty.get(job_path)["state"] == "succeeded"
    assert_all_has_ended(faulty)
