"""The pages of jobs and the line on every page, as the server writes them."""

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from models_app.keys import KeyRules, create_key
from models_app.models import AuditEntry, Job, User
from models_app.permissions import Scope

PART = {"hx-request": "true"}
LAYER = f"sha256:{'ab' * 32}"


def add_job(owner: User | None, state: str = "running", **changes: Any) -> str:
    """Record a job and return its id."""
    job_id = f"{Job.objects.count() + 1:032x}"
    values = {"kind": "pull", "model_name": "llama3.2:3b", "arguments": "{}"} | changes
    if state not in {"queued", "running"}:
        values.setdefault("ended_at", timezone.now())
    Job.objects.create(job_id=job_id, share_key=job_id, owner=owner, state=state, **values)
    return job_id


def moving(**changes: Any) -> dict[str, Any]:
    """Return what a pull's row has that is a quarter through its second file."""
    events = [
        {"status": "pulling manifest"},
        {"status": "pulling one", "digest": "sha256:one", "total": 1000, "completed": 1000},
        {"status": "pulling ab", "digest": LAYER, "total": 8_000_000, "completed": 2_000_000},
    ]
    figures = {"total_bytes": 8_001_000, "completed_bytes": 2_001_000, "bytes_per_s": 500_000}
    return {"events": json.dumps(events), **figures, **changes}


def words(answer: Any) -> str:
    """Return an answer's words, single-spaced and without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


# ------------------------------------------------------------------ the list


def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None) -> None:
    assert browser.get("/jobs")["Location"] == "/signin?next=%2Fjobs"


def test_jobs_stand_under_their_state(as_bob: Client, bob: User) -> None:
    add_job(bob, "running", model_name="run:1")
    add_job(bob, "queued", model_name="wait:1")
    add_job(bob, "failed", model_name="fail:1")
    add_job(bob, "succeeded", model_name="good:1")
    add_job(bob, "cancelled", model_name="cancel:1")

    told = words(as_bob.get("/jobs"))

    order = ["Running 1", "run:1", "Waiting 1", "wait:1", "Failed 1", "fail:1", "Done 2"]
    places = [told.index(word) for word in order]
    assert places == sorted(places)
    assert told.index("Done 2") < told.index("good:1")
    assert told.index("Done 2") < told.index("cancel:1")


def test_running_job_tells_figures(as_bob: Client, bob: User) -> None:
    add_job(bob, **moving())

    told = words(as_bob.get("/jobs"))

    assert "Pull llama3.2:3b" in told
    assert "25 % 2.0 MB of 8.0 MB 500 KB/s 12 s left" in told


def test_failed_job_says_why_with_its_code_and_id(as_bob: Client, bob: User) -> None:
    error = {"code": "registry_failed", "status": 500, "message": "the registry is <b>on fire</b>"}
    job_id = add_job(bob, "failed", error=error)

    answer = as_bob.get("/jobs")

    assert "&lt;b&gt;on fire&lt;/b&gt;" in answer.content.decode()
    assert f"registry_failed, job {job_id[:8]}" in words(answer)


def test_nothing_done_yet_says_how_to_begin(as_bob: Client) -> None:
    told = words(as_bob.get("/jobs"))

    assert "Nothing has been done yet" in told
    assert "pull a model" in told


def test_others_jobs_are_not_listed(as_bob: Client, alice: User) -> None:
    add_job(alice, model_name="secret:1")

    assert "secret:1" not in words(as_bob.get("/jobs"))
    assert "secret:1" not in words(as_bob.get("/jobs?all=1"))


def test_operator_sees_everybodys_where_asked(as_alice: Client, bob: User) -> None:
    add_job(bob, model_name="bobs:1")
    add_job(None, kind="gc", model_name="")

    assert "bobs:1" not in words(as_alice.get("/jobs"))
    told = words(as_alice.get("/jobs?all=1"))
    assert "bobs:1" in told
    assert "asked by bob" in told
    assert "asked by the site" in told


def test_part_is_the_list_alone(as_bob: Client, bob: User) -> None:
    add_job(bob)

    text = as_bob.get("/jobs", headers=PART).content.decode()

    assert text.lstrip().startswith('<div id="jobs"')
    assert "<html" not in text


@pytest.mark.parametrize("count", [1, 40])
def test_number_of_queries_does_not_grow_with_the_jobs(
    as_alice: Client, bob: User, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(count):
        add_job(bob, "running" if number % 2 else "failed", **moving())
    as_alice.get("/jobs")  # the session's first page writes when it was last used
    with django_assert_num_queries(5):  # session, user, teams, those at work, those that ended
        as_alice.get("/jobs?all=1")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "מודל\u202e:1", "x" * 700])
def test_hostile_name_is_text(as_bob: Client, bob: User, name: str) -> None:
    job_id = add_job(bob, model_name=name)

    for path in ("/jobs", f"/jobs/{job_id}", "/jobs/strip"):
        text = as_bob.get(path).content.decode()
        assert html.escape(name) in text
        assert "<script>alert" not in text


# ------------------------------------------------------------------ one job


def test_job_shows_every_file_with_speed_and_time_left(as_bob: Client, bob: User) -> None:
    job_id = add_job(bob, **moving())

    told = words(as_bob.get(f"/jobs/{job_id}"))

    assert "one 1.0 KB of 1.0 KB done" in told
    assert "abababababab 2.0 MB of 8.0 MB 500 KB/s, 12 s left" in told
    assert "pulling manifest" in told


def test_running_job_is_asked_for_again_and_an_ended_one_is_not(as_bob: Client, bob: User) -> None:
    running, ended = add_job(bob), add_job(bob, "succeeded")

    assert 'data-poll="1"' in as_bob.get(f"/jobs/{running}", headers=PART).content.decode()
    assert "data-poll" not in as_bob.get(f"/jobs/{ended}", headers=PART).content.decode()


def test_job_that_succeeded_opens_its_model_once_there_is_a_page_for_it(
    as_bob: Client, bob: User
) -> None:
    job_id = add_job(bob, "succeeded", model_name="bob/mine:latest")

    text = as_bob.get(f"/jobs/{job_id}").content.decode()

    assert "Cancel" not in words(as_bob.get(f"/jobs/{job_id}", headers=PART))
    assert "Resume" not in text


def test_others_job_is_not_found(as_bob: Client, alice: User) -> None:
    job_id = add_job(alice)

    for answer in (
        as_bob.get(f"/jobs/{job_id}"),
        as_bob.post(f"/jobs/{job_id}/cancel", {"csrfmiddlewaretoken": token(as_bob)}),
        as_bob.post(f"/jobs/{job_id}/retry", {"csrfmiddlewaretoken": token(as_bob)}),
    ):
        assert answer.status_code == 404
    assert Job.objects.get(job_id=job_id).state == "running"
    assert not Job.objects.get(job_id=job_id).is_cancel_asked


@pytest.mark.parametrize("events", [1, 2000])
def test_number_of_queries_does_not_grow_with_the_log(
    as_bob: Client, bob: User, events: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    log = json.dumps([{"status": f"step {number}"} for number in range(events)])
    job_id = add_job(bob, events=log)
    as_bob.get("/jobs")
    with django_assert_num_queries(4):  # session, user, teams, the job
        as_bob.get(f"/jobs/{job_id}")


# ------------------------------------------------------------------ cancel and again


def token(client: Client) -> str:
    found = re.search(r'value="([^"]{64})"', client.get("/jobs").content.decode())
    assert found
    return found[1]


def test_running_job_is_told_to_stop(as_bob: Client, bob: User) -> None:
    job_id = add_job(bob)

    answer = as_bob.post(f"/jobs/{job_id}/cancel", {"csrfmiddlewaretoken": token(as_bob)})

    assert answer["Location"] == f"/jobs/{job_id}"
    assert Job.objects.get(job_id=job_id).is_cancel_asked
    told = words(as_bob.get(f"/jobs/{job_id}", headers=PART))
    assert "Stopping" in told
    assert "Cancel" not in told


def test_waiting_job_is_cancelled_at_once_and_the_list_comes_back(
    as_bob: Client, bob: User
) -> None:
    job_id = add_job(bob, "queued")

    answer = as_bob.post(
        f"/jobs/{job_id}/cancel", {"csrfmiddlewaretoken": token(as_bob), "back": "jobs"}
    )

    assert answer["Location"] == "/jobs"
    assert Job.objects.get(job_id=job_id).state == "cancelled"


def test_cancelled_pull_is_resumed(as_bob: Client, bob: User, jobs_wait: None) -> None:
    job_id = add_job(bob, "cancelled")
    assert "Resume" in words(as_bob.get(f"/jobs/{job_id}"))

    as_bob.post(f"/jobs/{job_id}/retry", {"csrfmiddlewaretoken": token(as_bob)})

    assert Job.objects.get(job_id=job_id).state == "queued"
    assert "It is in line again." in words(as_bob.get(f"/jobs/{job_id}"))


def test_part_leaves_the_message_for_the_page(as_bob: Client, bob: User, jobs_wait: None) -> None:
    job_id = add_job(bob, "failed")
    as_bob.post(f"/jobs/{job_id}/retry", {"csrfmiddlewaretoken": token(as_bob)})

    as_bob.get(f"/jobs/{job_id}", headers=PART)

    assert "It is in line again." in words(as_bob.get(f"/jobs/{job_id}"))


def test_failed_job_that_is_dismissed_needs_no_attention(
    as_bob: Client, bob: User, jobs_wait: None
) -> None:
    job_id = add_job(bob, "failed", error={"code": "x", "status": 500, "message": "no space"})
    assert "has failed: no space" in words(as_bob.get("/home"))

    answer = as_bob.post(
        f"/jobs/{job_id}/dismiss", {"csrfmiddlewaretoken": token(as_bob), "back": "jobs"}
    )

    assert answer["Location"] == "/jobs"
    assert "has failed" not in words(as_bob.get("/home"))
    told = as_bob.get("/jobs").content.decode()
    assert 'id="jobs-done"' in told
    assert 'id="jobs-failed"' not in told
    assert f"dismiss-{job_id}" not in told
    as_bob.post(f"/jobs/{job_id}/retry", {"csrfmiddlewaretoken": token(as_bob)})
    assert Job.objects.get(job_id=job_id).dismissed_at is None


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "cancelled"])
def test_only_what_has_failed_is_dismissed(as_bob: Client, bob: User, state: str) -> None:
    job_id = add_job(bob, state)

    as_bob.post(f"/jobs/{job_id}/dismiss", {"csrfmiddlewaretoken": token(as_bob)})

    assert Job.objects.get(job_id=job_id).dismissed_at is None


def test_whoever_dismisses_the_job_of_another_is_recorded(
    as_alice: Client, alice: User, bob: User
) -> None:
    job_id = add_job(bob, "failed")

    as_alice.post(f"/jobs/{job_id}/dismiss", {"csrfmiddlewaretoken": token(as_alice)})

    assert Job.objects.get(job_id=job_id).dismissed_at
    assert [entry.actor_name for entry in AuditEntry.objects.filter(action="job.dismiss")] == [
        "alice"
    ]


@pytest.mark.parametrize("act", ["cancel", "retry", "dismiss"])
def test_nothing_is_done_by_looking_or_without_the_token(
    as_bob: Client, bob: User, act: str
) -> None:
    job_id = add_job(bob, "queued" if act == "cancel" else "failed")
    before = Job.objects.get(job_id=job_id).state

    assert as_bob.get(f"/jobs/{job_id}/{act}").status_code == 405
    assert as_bob.post(f"/jobs/{job_id}/{act}").status_code == 403
    assert Job.objects.get(job_id=job_id).state == before


def test_key_that_may_only_read_cancels_nothing(bob: User) -> None:
    _, secret = create_key(bob, "reads", KeyRules(scopes=(Scope.READ,)))
    job_id = add_job(bob, "queued")
    client = Client(headers={"authorization": f"Bearer {secret}"})

    assert client.get("/jobs").status_code == 200
    assert client.post(f"/jobs/{job_id}/cancel").status_code == 403
    assert Job.objects.get(job_id=job_id).state == "queued"


# ------------------------------------------------------------------ the line on every page


def test_every_page_asks_for_the_line(as_bob: Client) -> None:
    assert 'hx-get="/jobs/strip"' in as_bob.get("/home").content.decode()
    assert "/jobs/strip" not in Client().get("/signin").content.decode()


def test_line_is_empty_where_nothing_runs(as_bob: Client, bob: User, alice: User) -> None:
    add_job(bob, "succeeded")
    add_job(alice)

    assert words(as_bob.get("/jobs/strip", headers=PART)) == ""


def test_line_tells_what_runs(as_bob: Client, bob: User) -> None:
    job_id = add_job(bob, **moving())

    answer = as_bob.get("/jobs/strip", headers=PART)

    assert words(answer) == "Pull llama3.2:3b 25 % 12 s left"
    assert f'href="/jobs/{job_id}"' in answer.content.decode()
    assert 'data-poll="5"' in answer.content.decode()


def test_line_counts_the_others(as_bob: Client, bob: User) -> None:
    for _ in range(3):
        add_job(bob)

    assert "and 2 more" in words(as_bob.get("/jobs/strip", headers=PART))


def test_operators_line_tells_own_before_others(as_alice: Client, alice: User, bob: User) -> None:
    add_job(alice, "queued", model_name="own:1")
    add_job(bob, model_name="others:1", **moving())

    assert "own:1" in words(as_alice.get("/jobs/strip", headers=PART))


def test_end_is_told_once_and_stays_while_the_page_is_open(as_bob: Client, bob: User) -> None:
    job_id = add_job(bob)
    as_bob.get("/jobs/strip", headers=PART)
    Job.objects.update(state="failed", ended_at=timezone.now())

    first = as_bob.get("/jobs/strip", headers=PART)
    same_page = as_bob.get(f"/jobs/strip?ended={job_id}", headers=PART)
    next_page = as_bob.get("/jobs/strip", headers=PART)

    assert "Failed Pull llama3.2:3b" in words(first)
    assert f'hx-get="/jobs/strip?active=&amp;ended={job_id}"' in first.content.decode()
    assert "Failed Pull llama3.2:3b" in words(same_page)
    assert words(next_page) == ""


def test_end_is_told_to_a_page_that_an_answer_has_not_come_to(as_bob: Client, bob: User) -> None:
    job_id = add_job(bob)
    page = as_bob.get("/jobs/strip", headers=PART).content.decode()
    Job.objects.update(state="failed", ended_at=timezone.now())
    as_bob.get("/jobs/strip", headers=PART)  # lost, but for its cookie

    again = as_bob.get(f"/jobs/strip?active={job_id}&ended=", headers=PART)

    assert f'hx-get="/jobs/strip?active={job_id}&amp;ended="' in page
    assert "Failed Pull llama3.2:3b" in words(again)
    # Closing the line names what runs, and nothing that has ended.
    assert 'hx-get="/jobs/strip?active="' in again.content.decode()


def test_ids_that_are_none_or_others_tell_nothing(as_bob: Client, alice: User) -> None:
    job_id = add_job(alice, "succeeded")

    for text in (job_id, "'; drop", "%00", "a" * 5000, f"{job_id}.{'0' * 32}"):
        answer = as_bob.get(f"/jobs/strip?active={text}&ended={text}", headers=PART)
        assert words(answer) == ""


@pytest.mark.parametrize("count", [1, 50])
def test_line_costs_one_query(
    as_bob: Client, bob: User, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(count):
        add_job(bob, **moving())
    as_bob.get("/jobs/strip")
    with django_assert_num_queries(4):  # session, user, teams, and the jobs
        as_bob.get("/jobs/strip")


def test_line_of_who_is_signed_out_is_no_page_to_put_anywhere(db: None) -> None:
    answer = Client(headers={"accept": "*/*"}).get("/jobs/strip", headers=PART)

    assert answer.status_code == 401


def test_list_keeps_the_newest_of_what_has_ended(as_bob: Client, bob: User) -> None:
    now = timezone.now()
    for number in range(60):
        created_at = now - timedelta(hours=number)
        add_job(bob, "succeeded", model_name=f"m{number}:latest", created_at=created_at)

    told = words(as_bob.get("/jobs"))

    assert "m0:latest" in told
    assert "m59:latest" not in told
