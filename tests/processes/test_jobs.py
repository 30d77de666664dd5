"""A job of a really started site whose process is killed, and not the worker that began it.

The job is a pull of one file from a registry of the test's own, which sends a part of it and
waits. Workers that are killed whole: test_two_sites.
"""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.registry import FakeRegistry, fake_registry
from tests.processes.running_site import RunningSite, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(400)]

DONE_S = 150


@pytest.fixture
def registry(tiny_gguf: Path) -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        registry.add_model("them/slow", tiny_gguf.read_bytes())
        registry.holds_at = 65536
        yield registry


@pytest.fixture
def site(tmp_path: Path, registry: FakeRegistry) -> Iterator[RunningSite]:
    settings = {"OLLAMASITE_ALLOWED_REGISTRIES": f"http://{registry.host}"}
    site = RunningSite(tmp_path / "data", "--no-starter-model", settings=settings)
    try:
        site.wait_until_started()
        yield site
        assert site.end() == 0
    finally:
        site.clean_up()


def call(site: RunningSite, path: str, body: object = None) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - our own address
        site.url + path,
        headers={"Authorization": f"Bearer {site.api_key}"},
        data=None if body is None else json.dumps(body).encode(),
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - same
        found: dict[str, Any] = json.loads(answer.read())
    return found


def begin_pull(site: RunningSite, model: str) -> str:
    """Begin a pull that goes on by itself and return its id once bytes have come."""
    job_id = str(call(site, "/api/jobs", {"kind": "pull", "model": model})["id"])
    wait_for(lambda: call(site, f"/api/jobs/{job_id}")["completed"] > 0)
    return job_id


def end_of(site: RunningSite, job_id: str) -> dict[str, Any]:
    """Return a job once it has ended."""
    wait_for(
        lambda: call(site, f"/api/jobs/{job_id}")["state"] not in {"queued", "running"}, DONE_S
    )
    return call(site, f"/api/jobs/{job_id}")


def test_job_is_done_though_its_process_is_killed(
    site: RunningSite, registry: FakeRegistry
) -> None:
    job_id = begin_pull(site, f"http://{registry.host}/them/slow")
    leader = site.pid_of("worker")
    for pid, line in site.processes().items():
        if line.endswith("worker") and pid != leader:
            os.kill(pid, signal.SIGKILL)
    registry.holds_at = None

    job = end_of(site, job_id)

    assert (job["state"], job["attempt"]) == ("succeeded", 2), job
