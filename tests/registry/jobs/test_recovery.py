"""The look at the rows: lost workers, lost wake-ups, garbage in time."""

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from models_app import jobs
from models_app.jobs import JobKind, JobRecord, JobState
from models_app.models import Job, User
from ollamasite.celery import app as celery
from registry.jobs import recovery, submit, wake
from tests.conftest import principal_for
from tests.registry.jobs.conftest import Script, add

pytestmark = pytest.mark.usefixtures("script")


@pytest.fixture(autouse=True)
def _no_garbage(settings: Any) -> None:
    settings.GC_EVERY_S = float("inf")


def lost_job(user: User, *, silent_s: float = 16.0) -> JobRecord:
    """Return a job whose worker took it up and has said nothing since."""
    job = add(principal_for(user), "m", share="m")
    assert jobs.claim_next(most_running=2)
    Job.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=silent_s))
    return job


def now(job: JobRecord) -> JobRecord:
    found = jobs.read_job(job.job_id)
    assert found is not None
    return found


def wakeups() -> int:
    with celery.connection_for_write() as connection:
        channel: Any = connection.default_channel
        return int(channel._size("celery"))


def forget_wakeups() -> None:
    with celery.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel._purge("celery")


def test_job_without_a_worker_is_done_by_another(alice: User, script: Script) -> None:
    job = lost_job(alice)

    recovery.recover_once()
    assert now(job).state == JobState.QUEUED
    assert script.run_one()

    assert (now(job).state, now(job).attempt) == (JobState.SUCCEEDED, 2)


def test_job_whose_worker_lives_is_left_alone(alice: User) -> None:
    job = lost_job(alice, silent_s=10)

    recovery.recover_once()

    assert now(job).state == JobState.RUNNING


def test_lost_job_is_found_though_the_clock_was_set_back(alice: User) -> None:
    job = lost_job(alice, silent_s=-3600)

    recovery.recover_once()

    assert now(job).state == JobState.QUEUED


def test_job_that_ends_its_worker_each_time_is_given_up(alice: User) -> None:
    job = lost_job(alice)
    Job.objects.update(attempt=5)

    recovery.recover_once()

    assert now(job).state == JobState.FAILED
    assert now(job).error == {
        "code": "job_interrupted",
        "status": 500,
        "message": "the job was interrupted 5 times and is not begun again",
    }


def test_lost_job_that_was_cancelled_is_not_done_again(alice: User) -> None:
    job = lost_job(alice)
    submit.cancel(principal_for(alice), job.job_id)

    recovery.recover_once()

    assert now(job).state == JobState.CANCELLED


def test_jobs_that_wait_are_woken_for_as_many_as_can_run(alice: User, settings: Any) -> None:
    settings.WORKER_JOBS = 2
    for name in ("a", "b", "c"):
        add(principal_for(alice), name)
    forget_wakeups()

    recovery.recover_once()
    assert wakeups() == 2

    jobs.claim_next(most_running=2)
    forget_wakeups()
    recovery.recover_once()
    assert wakeups() == 1


def test_submitting_wakes_the_worker(alice: User) -> None:
    forget_wakeups()
    add(principal_for(alice), "m")

    assert wakeups() == 1


@pytest.fixture
def broker() -> Iterator[Callable[[str], None]]:
    """Point the queue to somewhere else."""

    def use(url: str) -> None:
        celery.conf.update(broker_url=url)
        celery.__dict__.pop("amqp", None)  # what it has learnt of the other broker

    yield use
    use("memory://")


def test_job_is_there_though_the_queue_is_away(
    alice: User, broker: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    broker("redis+socket:///nowhere/redis.sock")
    begin_s = time.monotonic()
    with caplog.at_level(logging.WARNING):
        job = add(principal_for(alice), "m")

    assert time.monotonic() - begin_s < 15, "whoever asks does not wait for the queue"
    assert now(job).state == JobState.QUEUED
    assert "no worker could be woken" in caplog.text


def test_queue_that_says_nothing_is_not_waited_for(
    alice: User,
    broker: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(wake._PATIENCE, "socket_timeout", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.WARNING):
        broker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        job = add(principal_for(alice), "m")

    assert now(job).state == JobState.QUEUED
    assert "no worker could be woken" in caplog.text


def test_garbage_is_collected_when_it_is_time(settings: Any) -> None:
    settings.GC_EVERY_S = 3600.0
    recovery.recover_once()
    recovery.recover_once()
    assert list(Job.objects.values_list("kind", flat=True)) == [JobKind.COLLECT_GARBAGE]

    Job.objects.update(
        created_at=timezone.now() - timedelta(seconds=3601), state=JobState.SUCCEEDED
    )
    recovery.recover_once()
    assert Job.objects.count() == 2


def test_garbage_is_left_where_that_is_wished() -> None:
    recovery.recover_once()

    assert not Job.objects.exists()


# ------------------------------------------------------------------ what is done beside it


def test_chore_that_fails_keeps_nobody_else_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail() -> None:
        raise PermissionError("a file of somebody else")

    failures: Counter[Callable[[], object]] = Counter()
    for _ in range(4):
        recovery.look(fail, lambda: done.append("behind it"), failures=failures)

    assert done == ["behind it"] * 4
    assert len([line for line in caplog.records if line.exc_info]) == 3  # not each time


def test_without_its_database_nothing_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail() -> None:
        raise OperationalError("connection refused")

    recovery.look(fail, lambda: done.append("behind it"), failures=Counter())

    assert done == []
    assert [line.exc_info for line in caplog.records] == [None]
