"""Doing jobs: whose turn it is, how they end, what is written meanwhile."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from models_app import jobs
from models_app.jobs import JobRecord, JobState
from models_app.keys import create_key, revoke_key
from models_app.models import Job, User
from ollamasite.errors import Forbidden
from registry.jobs import recovery, submit
from registry.jobs.context import JobContext
from registry.jobs.run import run_next
from registry.progress import Progress
from tests.conftest import principal_for
from tests.registry.jobs.conftest import WAIT_S, Script, add, in_threads


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


def state_of(job: JobRecord) -> JobState:
    found = jobs.read_job(job.job_id)
    assert found is not None
    return found.state


def test_nothing_to_do_is_said_at_once(script: Script) -> None:
    assert not script.run_one()


def test_job_runs_for_its_owner_with_its_arguments(script: Script, alice: User) -> None:
    job = add(principal_for(alice), "m")

    assert script.run_one()

    (principal,) = script.principals
    assert script.runs == ["m"]
    assert principal is not None
    assert (principal.user_id, principal.is_admin) == (alice.pk, False)
    assert state_of(job) == JobState.SUCCEEDED


def test_job_of_the_site_runs_for_nobody(script: Script) -> None:
    add(None, "m")
    script.run_one()

    assert script.principals == [None]


def test_ended_job_tells_all_that_happened(script: Script, alice: User) -> None:
    job_id = add(principal_for(alice), "m").job_id
    script.run_one()

    record = jobs.read_job(job_id)
    assert record is not None
    assert [event["status"] for event in record.events] == ["begun", "success"]
    assert (record.attempt, record.remaining_s) == (1, None)
    assert record.started_at is not None
    assert record.ended_at is not None


def test_user_with_the_fewest_running_jobs_is_next(script: Script, alice: User, bob: User) -> None:
    for name in ("a1", "a2", "a3"):
        add(principal_for(alice), name)
    add(principal_for(bob), "b1")
    order = [jobs.claim_next(most_running=2) for _ in range(4)]

    assert [job and job.record.model_name for job in order] == ["a1", "b1", "a2", None]


def test_threads_that_look_at_once_take_up_each_job_once(script: Script, alice: User) -> None:
    for name in ("a", "b"):
        add(principal_for(alice), name)
    found: list[str] = []

    def claim() -> None:
        job = jobs.claim_next(most_running=2)
        if job is not None:
            found.append(job.record.model_name)

    in_threads(4, claim)

    assert sorted(found) == ["a", "b"]


def test_user_has_few_jobs_running_whoever_looks(script: Script, alice: User) -> None:
    for name in "abcdef":
        add(principal_for(alice), name)

    in_threads(4, lambda: jobs.claim_next(most_running=2))

    assert Job.objects.filter(state=JobState.RUNNING).count() == 2


def test_job_ends_with_the_key_that_has_asked_for_it(script: Script, alice: User) -> None:
    key, _ = create_key(alice, "leaked")
    by_key = replace(principal_for(alice), key_id=key.pk)
    running, waiting = add(by_key, "a"), add(by_key, "b")
    retried = submit.retry(by_key, submit.cancel(by_key, add(by_key, "c").job_id).job_id)
    own = add(principal_for(alice), "d")
    jobs.claim_next(most_running=1)

    revoke_key(key)

    assert Job.objects.get(job_id=running.job_id).is_cancel_asked
    assert [state_of(job) for job in (waiting, retried, own)] == [
        JobState.CANCELLED,
        JobState.CANCELLED,
        JobState.QUEUED,
    ]


def test_job_that_another_has_asked_for_too_outlives_the_key(script: Script, alice: User) -> None:
    key, _ = create_key(alice, "leaked")
    job = add(replace(principal_for(alice), key_id=key.pk), "m", share="m")
    add(principal_for(alice), "m", share="m")

    revoke_key(key)

    assert state_of(job) == JobState.QUEUED


def test_job_that_was_asked_for_while_its_key_ended_fails(script: Script, alice: User) -> None:
    key, _ = create_key(alice, "leaked")
    revoke_key(key)
    job = add(replace(principal_for(alice), key_id=key.pk), "m")
    script.run_one()

    assert script.runs == []
    assert state_of(job) == JobState.FAILED


def test_failed_job_says_why(script: Script, alice: User) -> None:
    job_id = add(principal_for(alice), "m").job_id
    script.failure = Forbidden("you may not")
    script.run_one()

    record = jobs.read_job(job_id)
    assert record is not None
    assert record.state == JobState.FAILED
    assert record.error == {"code": "forbidden", "status": 403, "message": "you may not"}


def test_unknown_failure_is_told_by_an_id_alone(
    script: Script, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = add(principal_for(alice), "m").job_id
    script.failure = RuntimeError("secret detail")
    with caplog.at_level(logging.ERROR):
        script.run_one()

    record = jobs.read_job(job_id)
    assert record is not None
    assert record.error is not None
    assert record.error["status"] == 500
    assert record.error["message"].startswith("internal server error (id req_")
    assert record.error["message"].split()[-1][:-1] in caplog.text


def test_arguments_that_make_no_sense_fail_the_job(script: Script, alice: User) -> None:
    job = add(principal_for(alice), "m")
    Job.objects.update(arguments='{"name": 5}')
    script.run_one()

    assert state_of(job) == JobState.FAILED


def test_job_of_somebody_who_is_no_longer_active_fails(script: Script, alice: User) -> None:
    job = add(principal_for(alice), "m")
    User.objects.filter(pk=alice.pk).update(is_active=False)
    script.run_one()

    assert state_of(job) == JobState.FAILED
    assert script.runs == []


@pytest.mark.usefixtures("worker")
def test_running_job_shows_how_far_it_is(script: Script, alice: User) -> None:
    job_id = add(principal_for(alice), "m").job_id

    def is_shown() -> bool:
        record = jobs.read_job(job_id)
        return record is not None and len(record.events) == 2

    wait_until(is_shown)
    record = jobs.read_job(job_id)
    assert record is not None
    assert (record.total_bytes, record.completed_bytes) == (10, 5)
    assert record.state == JobState.RUNNING


@pytest.mark.usefixtures("worker")
def test_running_job_is_cancelled_and_makes_room(script: Script, alice: User) -> None:
    job = add(principal_for(alice), "m", share="m")
    assert script.has_begun.wait(WAIT_S)

    # The worker may hear of it before the row is read again.
    state = submit.cancel(principal_for(alice), job.job_id).state
    assert state in {JobState.RUNNING, JobState.CANCELLED}
    other = add(principal_for(alice), "m", share="m")

    assert other.job_id != job.job_id
    wait_until(lambda: state_of(job) == JobState.CANCELLED)
    found = jobs.read_job(job.job_id)
    assert found is not None
    assert found.error == {
        "code": "job_cancelled",
        "status": 499,
        "message": "the job was cancelled",
    }


def test_job_that_somebody_else_has_taken_up_writes_nothing(script: Script, alice: User) -> None:
    job = add(principal_for(alice), "m")
    claimed = jobs.claim_next(most_running=2)
    assert claimed is not None
    Job.objects.update(state=JobState.QUEUED)
    again = jobs.claim_next(most_running=2)
    assert again is not None

    assert jobs.save_progress(claimed.claim, jobs.Snapshot()) is None
    assert not jobs.end_job(claimed.claim, JobState.FAILED, jobs.Snapshot())
    assert not jobs.put_back(claimed.claim)
    assert state_of(job) == JobState.RUNNING


def test_worker_that_has_to_stop_puts_its_job_back(script: Script, alice: User) -> None:
    job_id = add(principal_for(alice), "m").job_id
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))

    def stop() -> None:
        script.has_begun.wait(WAIT_S)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        assert run_next(kinds=script.kinds)
    finally:
        signal.signal(signal.SIGTERM, before)
        stopper.join(WAIT_S)

    record = jobs.read_job(job_id)
    assert record is not None
    assert (record.state, record.attempt) == (JobState.QUEUED, 0)
    assert heard == [signal.SIGTERM]  # then it goes its way


def test_events_come_from_any_thread(script: Script, alice: User) -> None:
    job_id = add(principal_for(alice), "m").job_id

    def run(context: JobContext, arguments: dict[str, str]) -> None:
        del arguments
        in_threads(4, lambda: context.report(Progress(status="x", digest="d", total=1)))

    kinds = {kind: type(work)(dict[str, str], run) for kind, work in script.kinds.items()}
    assert run_next(kinds=kinds)

    record = jobs.read_job(job_id)
    assert record is not None
    assert [event["status"] for event in record.events] == ["x"]


def test_submitted_job_is_done_on_the_spot_in_other_tests(
    transactional_db: None, alice: User
) -> None:
    record = add(principal_for(alice), "elsewhere.example/x/y")
    found = jobs.read_job(record.job_id)

    assert found is not None
    assert found.state == JobState.FAILED


def test_job_that_loses_the_database_is_done_again(script: Script, alice: User) -> None:
    job = add(principal_for(alice), "m")
    script.may_end.set()
    script.failure = OperationalError("server closed the connection")
    assert run_next(kinds=script.kinds)
    assert state_of(job) == JobState.RUNNING

    Job.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=16))
    recovery.recover_once()
    script.failure = None
    assert script.run_one()

    assert state_of(job) == JobState.SUCCEEDED


def test_end_of_a_job_outlives_a_database_that_is_away_for_a_moment(
    script: Script, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add(principal_for(alice), "m")
    script.may_end.set()
    end_job, failures = jobs.end_job, iter([OperationalError("database is locked")])

    def end_late(*arguments: Any) -> bool:
        for failure in failures:
            raise failure
        return end_job(*arguments)

    monkeypatch.setattr(jobs, "end_job", end_late)
    assert run_next(kinds=script.kinds)

    assert state_of(job) == JobState.SUCCEEDED
    assert script.runs == ["m"]
