"""Processes that are not there, do not answer, or have left something behind."""

import fcntl
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from inference.frames import encode
from inference.messages import PROTOCOL_VERSION, Welcome
from models_app.models import Job, JobKind, JobState, Node
from ollamasite.checkup import processes
from tests.inference.engine.far_node import far_house, joined
from tests.ollamasite.checkup.found import codes


@pytest.fixture(autouse=True)
def _no_site(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_ANSWER_S", 60.0)  # how busy this machine is does not matter
    settings.DATA_DIR = tmp_path
    settings.ENGINE_SOCKET = tmp_path / "engine.sock"
    settings.REDIS_SOCKET = tmp_path / "redis.sock"
    settings.REDIS_URL = f"unix://{tmp_path}/redis.sock"
    settings.BIND_PORT = 1


@pytest.fixture
def serve_lock(tmp_path: Path) -> Iterator[None]:
    """What `serve` holds as long as it runs."""
    descriptor = os.open(tmp_path / "serve.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


@contextmanager
def node(path: Path, answer: bytes) -> Iterator[None]:
    """Somebody who gives every client the same answer."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(10)


def test_site_that_does_not_run_is_no_error() -> None:
    assert codes(processes.look_at_redis()) == {"redis.not-started"}
    assert codes(processes.look_at_engine()) == {"engine.not-started"}
    assert codes(processes.look_at_web()) == {"web.not-started"}


@pytest.mark.usefixtures("serve_lock")
def test_site_that_runs_and_does_not_answer_is_one() -> None:
    assert codes(processes.look_at_redis()) == {"redis.unreachable"}
    assert codes(processes.look_at_engine()) == {"engine.unusable"}
    assert codes(processes.look_at_web()) == {"web.silent"}


def welcome(protocol: int) -> bytes:
    return encode(Welcome(protocol=protocol, node="here"))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (welcome(PROTOCOL_VERSION), None),
        (welcome(PROTOCOL_VERSION - 1), "not restarted after an upgrade"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "another protocol"),
        (b"", "closed the connection"),
    ],
)
def test_what_is_wrong_with_a_node_is_told(
    settings: Settings, answer: bytes, why: str | None
) -> None:
    with node(Path(settings.ENGINE_SOCKET), answer):
        found = list(processes.look_at_engine())
    assert [one.code for one in found] == (["engine.unusable"] if why else [])
    assert all(why in one.message for one in found if why)


def test_node_that_says_nothing_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_ANSWER_S", 0.2)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(settings.ENGINE_SOCKET))
        server.listen()
        (found,) = processes.look_at_engine()
    assert "did not answer" in found.message


def make_job(state: JobState, age_s: float) -> None:
    moment = timezone.now() - timedelta(seconds=age_s)
    Job.objects.create(
        job_id=f"{state}-{age_s}",
        share_key=f"{state}-{age_s}",
        kind=JobKind.PULL,
        state=state,
        arguments="{}",
        created_at=moment,
        heartbeat_at=moment if state == JobState.RUNNING else None,
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([(JobState.RUNNING, 5), (JobState.QUEUED, 900)], set()),
        ([(JobState.QUEUED, 60), (JobState.FAILED, 9000)], set()),
        ([(JobState.RUNNING, 120)], {"jobs.silent"}),
        ([(JobState.QUEUED, 900)], {"jobs.waiting"}),
    ],
    ids=str,
)
def test_jobs_that_nobody_does(jobs: list[tuple[JobState, float]], expected: set[str]) -> None:
    for state, age_s in jobs:
        make_job(state, age_s)
    assert codes(processes.look_at_jobs()) == expected


def test_journals_that_nobody_takes_up(settings: Settings) -> None:
    folder = Path(settings.LEDGER_DIR)
    folder.mkdir(parents=True)
    held, left, young = (folder / f"web-{number}-a.jsonl" for number in (1, 2, 3))
    for path in (held, left, young):
        path.write_text("\n{}")
    old = time.time() - 3600
    os.utime(held, (old, old))
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert codes(processes.look_at_journals()) == set()
        os.utime(left, (old, old))
        (found,) = processes.look_at_journals()
    assert found.code == "ledger.left"
    assert left.name in found.message
    assert left.exists(), "looking changes nothing"


@pytest.mark.django_db
def test_nodes_that_cannot_be_reached(tmp_path: Path) -> None:
    with far_house(tmp_path / "far") as house:
        joined(house, "far")
        Node.objects.create(name="never-joined", token_digest="2")
        assert codes(processes.look_at_nodes()) == set()
    (found,) = processes.look_at_nodes()
    assert found.code == "node.lost"
    assert f"far cannot be used at 127.0.0.1:{house.port}: " in found.message


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("secret_salt", "another", "it closed the connection"),
        ("fingerprint", "0" * 64, "another machine answers"),
    ],
)
def test_open_port_is_not_yet_a_node_that_can_be_used(
    tmp_path: Path, field: str, value: str, why: str
) -> None:
    with far_house(tmp_path / "far") as house:
        joined(house, "far")
        Node.objects.update(**{field: value})
        (found,) = processes.look_at_nodes()
    assert found.code == "node.lost"
    assert why in found.message


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("ahead_s", "way"), [(6000.0, "s ahead of"), (-6000.0, "s behind"), (0.0, None)]
)
def test_clock_of_a_node_that_is_not_ours_is_told(
    tmp_path: Path, ahead_s: float, way: str | None
) -> None:
    with far_house(tmp_path / "far", ahead_s=ahead_s) as house:
        joined(house, "far")
        found = list(processes.look_at_nodes())
    assert [one.code for one in found] == ([] if way is None else ["node.clock"])
    for one in found:
        told = re.search(r"(\d+) (s .*) this machine's", one.message)
        assert told
        # The answer's way counts for half of what it took.
        assert (abs(int(told[1]) - 6000) < 60, told[2]) == (True, way)
