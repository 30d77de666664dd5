"""`ollamasite worker` really started: what SIGTERM does to a job that runs."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from ollamasite import data_dir, redis_server
from tests.databases import database_settings
from tests.prepared_sites import Kind, copy_prepared
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside]

# The worker command with one more job: sleeps as long as it is told to.
WORKER = """
import os, time
os.environ["DJANGO_SETTINGS_MODULE"] = "ollamasite.settings"
import django
django.setup()
from django.core.management import call_command
from ollamasite.celery import app
from registry.jobs import recovery

recovery.keep_recovering = lambda *_: None  # no chores: the one child is for the test's jobs

@app.task(name="tests.sleep")
def sleep(seconds):
    print("has begun")
    time.sleep(seconds)
    return "slept"

call_command("worker", concurrency=1)
"""
SEND = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "ollamasite.settings"
import django
django.setup()
from ollamasite.celery import app
print(app.send_task("tests.sleep", [float(sys.argv[1])]).id)
"""


class Worker:
    """A worker with a Redis of its own, and the means to give it a job."""

    def __init__(self, folder: Path, *, drain: str) -> None:
        copy_prepared(Kind.BARE, folder)
        socket = data_dir.run_dir(folder) / "redis.sock"
        self._environ = (
            os.environ
            | database_settings(folder)
            | {
                "OLLAMASITE_DATA_DIR": str(folder),
                "OLLAMASITE_DRAIN_TIMEOUT": drain,
            }
        )
        self._log = folder / "worker.log"
        self._redis_server = subprocess.Popen(
            redis_server.command_line(redis_server.find_executable(), socket, folder / "redis"),
            stdout=subprocess.DEVNULL,
        )
        self.redis = Redis(unix_socket_path=str(socket))
        wait_for(socket.exists)
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-c", textwrap.dedent(WORKER)],
                env=self._environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def begin_job(self, seconds: float) -> str:
        """Hand a job out and return its id once the worker has it."""
        command = [sys.executable, "-c", SEND, str(seconds)]
        job_id = subprocess.check_output(command, env=self._environ, text=True).strip()
        wait_for(lambda: f"{job_id}] received" in self.output, 120)
        return job_id

    def children(self) -> list[int]:
        """The processes that run its jobs."""
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(90)

    def clean_up(self) -> None:
        self.redis.close()
        for process in (self.process, self._redis_server):
            process.kill()
            process.wait()


@pytest.fixture
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "data", drain=request.param)
    yield worker
    worker.clean_up()


@pytest.mark.parametrize("worker", ["30s"], indirect=True)
def test_running_job_is_finished_before_the_worker_stops(worker: Worker) -> None:
    job_id = worker.begin_job(1.0)
    # What a child has been given and not begun goes back into the queue.
    wait_for(lambda: "has begun" in worker.output, 120)

    assert worker.stop() == 0
    assert b'"slept"' in (worker.redis.get(f"celery-task-meta-{job_id}") or b"")


@pytest.mark.parametrize("worker", ["1s"], indirect=True)
def test_job_that_takes_too_long_goes_back_into_the_queue(worker: Worker) -> None:
    worker.begin_job(120.0)

    worker.stop()

    assert worker.redis.llen("celery") == 1
    assert worker.redis.hlen("unacked") == 0


@pytest.mark.parametrize("worker", ["1s"], indirect=True)
def test_job_that_its_child_has_not_begun_does_not_hold_up_the_stop(worker: Worker) -> None:
    wait_for(lambda: "ready." in worker.output, 120)
    [child] = worker.children()
    os.kill(child, signal.SIGSTOP)  # a machine that is too busy to run it
    worker.begin_job(120.0)
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "Hitting Ctrl+C again" in worker.output)
    os.kill(child, signal.SIGCONT)

    worker.process.wait(60)
    assert worker.redis.llen("celery") == 1
    assert worker.redis.hlen("unacked") == 0


@pytest.mark.parametrize("worker", ["30s"], indirect=True)
def test_worker_does_not_complain_about_its_user(worker: Worker) -> None:
    wait_for(lambda: "ready." in worker.output, 120)

    assert "superuser" not in worker.output
