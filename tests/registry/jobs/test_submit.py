"""Asking for jobs: shared, limited, cancelled, done again; and who may see them."""

from typing import Any

import pytest
from django.db import OperationalError

from models_app import audit, jobs
from models_app.jobs import JobKind, JobState
from models_app.models import Job, User
from models_app.permissions import CredentialKind, Principal, Scope
from ollamasite.errors import BodyTooLarge, Unauthenticated
from registry.errors import JobNotFound, TooManyJobs
from registry.jobs import submit
from tests.conftest import principal_for
from tests.registry.jobs.conftest import Script, add, in_threads

pytestmark = pytest.mark.usefixtures("script")


def test_new_job_waits_with_what_was_asked(alice: User) -> None:
    record = add(principal_for(alice), "m")

    assert (record.kind, record.state) == (JobKind.PULL, JobState.QUEUED)
    assert (record.model_name, record.owner_name) == ("m", "alice")
    assert (record.events, record.error, record.is_ended) == ((), None, False)


def test_same_request_gets_the_same_job(alice: User) -> None:
    first = add(principal_for(alice), "m", share="m")

    assert add(principal_for(alice), "m", share="m").job_id == first.job_id
    assert add(principal_for(alice), "m", share="other").job_id != first.job_id
    assert Job.objects.count() == 2


def test_arguments_that_no_row_should_hold_are_refused(alice: User) -> None:
    arguments = {"text": "x" * submit.MAX_ARGUMENT_BYTES}
    with pytest.raises(BodyTooLarge):
        submit.submit(principal_for(alice), JobKind.PULL, arguments, model_name="m")


def test_jobs_that_share_nothing_are_several(alice: User) -> None:
    assert add(principal_for(alice), "m").job_id != add(principal_for(alice), "m").job_id


def test_threads_that_ask_at_once_get_one_job(alice: User, bob: User) -> None:
    principals = [principal_for(alice), principal_for(bob), None, principal_for(alice)]
    found: list[str] = []

    in_threads(4, lambda: found.append(add(principals.pop(), "m", share="m").job_id))

    assert len(found) == 4
    assert len(set(found)) == 1


def test_shared_job_goes_on_by_itself_once_somebody_wants_that(alice: User) -> None:
    assert not add(principal_for(alice), "m", share="m").is_detached
    assert add(principal_for(alice), "m", share="m", is_detached=True).is_detached
    assert add(principal_for(alice), "m", share="m").is_detached


def test_ended_job_is_not_shared(alice: User, script: Script) -> None:
    first = add(principal_for(alice), "m", share="m")
    script.run_one()

    assert add(principal_for(alice), "m", share="m").job_id != first.job_id


def test_line_of_a_user_is_not_endless(alice: User, bob: User) -> None:
    for _ in range(submit.MOST_QUEUED):
        add(principal_for(alice), "m")

    with pytest.raises(TooManyJobs):
        add(principal_for(alice), "m")
    add(principal_for(bob), "m")
    add(None, "m")


def test_waiting_job_is_cancelled_at_once(alice: User) -> None:
    job_id = add(principal_for(alice), "m").job_id

    record = submit.cancel(principal_for(alice), job_id)

    assert (record.state, record.is_ended) == (JobState.CANCELLED, True)
    assert record.ended_at is not None


def test_ended_job_stays_as_it_ended(alice: User, script: Script) -> None:
    job_id = add(principal_for(alice), "m").job_id
    script.run_one()

    assert submit.cancel(principal_for(alice), job_id).state == JobState.SUCCEEDED
    assert submit.retry(principal_for(alice), job_id).state == JobState.SUCCEEDED


def test_cancelled_job_can_be_done_again(alice: User, script: Script) -> None:
    job_id = add(principal_for(alice), "m").job_id
    submit.cancel(principal_for(alice), job_id)

    again = submit.retry(principal_for(alice), job_id)

    assert (again.job_id, again.state, again.is_detached) == (job_id, JobState.QUEUED, True)
    assert script.run_one()
    assert submit.find(principal_for(alice), job_id).state == JobState.SUCCEEDED


def test_failed_job_is_done_again_without_its_past(alice: User, script: Script) -> None:
    job_id = add(principal_for(alice), "m").job_id
    script.failure = ValueError("why")
    script.run_one()
    assert submit.find(principal_for(alice), job_id).error is not None

    again = submit.retry(principal_for(alice), job_id)

    assert (again.error, again.events, again.ended_at) == (None, (), None)


def test_job_done_again_is_the_one_that_does_the_same_already(alice: User) -> None:
    first = add(principal_for(alice), "m", share="m")
    submit.cancel(principal_for(alice), first.job_id)
    second = add(principal_for(alice), "m", share="m")

    assert submit.retry(principal_for(alice), first.job_id).job_id == second.job_id


def test_nobody_learns_of_jobs_of_others(alice: User, mallory: User, admin: User) -> None:
    job_id = add(principal_for(alice), "m").job_id

    for call in (submit.find, submit.cancel, submit.retry):
        with pytest.raises(JobNotFound, match=f"job '{job_id}' not found"):
            call(principal_for(mallory), job_id)
    assert jobs.list_jobs(principal_for(mallory), is_everybodys=True) == []
    assert submit.find(principal_for(admin), job_id).job_id == job_id


def test_key_of_an_admin_that_reaches_less_far_sees_their_own(alice: User, admin: User) -> None:
    theirs, own = add(principal_for(alice), "m"), add(principal_for(admin), "m")
    narrow = Principal(
        user_id=admin.pk,
        username=admin.username,
        is_admin=True,
        kind=CredentialKind.KEY,
        scopes=frozenset({Scope.WRITE}),
    )

    assert jobs.find_job(narrow, theirs.job_id) is None
    assert [job.job_id for job in jobs.list_jobs(narrow, is_everybodys=True)] == [own.job_id]


@pytest.mark.parametrize("job_id", ["", "no", "a\0b", "é" * 40, "x" * 10_000])
def test_id_that_is_none_is_not_found(alice: User, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        submit.find(principal_for(alice), job_id)


def test_jobs_are_listed_newest_first_and_by_what_they_are(alice: User, script: Script) -> None:
    done = add(principal_for(alice), "done")
    script.run_one()
    waiting = add(principal_for(alice), "waiting")
    principal = principal_for(alice)

    assert [job.job_id for job in jobs.list_jobs(principal)] == [waiting.job_id, done.job_id]
    assert [job.job_id for job in jobs.list_jobs(principal, limit=1)] == [waiting.job_id]
    assert [job.model_name for job in jobs.list_jobs(principal, states=[JobState.SUCCEEDED])] == [
        "done"
    ]
    assert jobs.list_jobs(principal, kind=JobKind.PUSH) == []


def test_account_that_is_deleted_meanwhile_gets_no_job(alice: User) -> None:
    principal = principal_for(alice)
    alice.delete()

    with pytest.raises(Unauthenticated):
        add(principal, "m")


def test_waiting_job_of_an_account_that_was_closed_is_that_of_who_asks_next(
    alice: User, bob: User, script: Script
) -> None:
    first = add(principal_for(alice), "m", share="m")
    User.objects.filter(pk=alice.pk).update(is_active=False)

    second = add(principal_for(bob), "m", share="m")
    script.run_one()

    assert (second.job_id, second.owner_id) == (first.job_id, bob.pk)
    assert [principal and principal.user_id for principal in script.principals] == [bob.pk]


def test_what_cannot_be_recorded_is_not_done(
    alice: User, admin: User, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, failed = (add(principal_for(alice), name) for name in ("m", "n"))
    Job.objects.filter(job_id=failed.job_id).update(state=JobState.FAILED)
    before = list(Job.objects.order_by("pk").values())

    def away(*_: object, **__: object) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr(audit, "_append", away)
    by = principal_for(admin)
    acts: list[Any] = [
        lambda: submit.cancel(by, waiting.job_id),
        lambda: submit.retry(by, failed.job_id),
        lambda: submit.dismiss(by, failed.job_id),
        lambda: submit.submit(by, JobKind.VERIFY, None, model_name=""),
    ]
    for act in acts:
        with pytest.raises(OperationalError):
            act()
    assert list(Job.objects.order_by("pk").values()) == before
