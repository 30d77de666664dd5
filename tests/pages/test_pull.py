"""The page that has a model pulled, as the server writes it."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from models_app.models import Job, User
from registry.pages.wording import duration_in_words, percent, size_in_words
from tests.fakes.registry import FakeRegistry, fake_registry
from tests.pages.catalogue import add_model

Form = dict[str, Any]


@pytest.fixture
def registry(settings: Settings) -> Iterator[FakeRegistry]:
    """Another registry, which the site goes to."""
    with fake_registry() as running:
        settings.ALLOWED_REGISTRIES = [f"http://{running.host}"]
        yield running


def token(client: Client) -> str:
    found = re.search(r'value="([^"]{64})"', client.get("/models/pull").content.decode())
    assert found
    return found[1]


def post(client: Client, path: str = "/models/pull", **fields: str) -> Any:
    return client.post(path, {"csrfmiddlewaretoken": token(client), **fields})


def words(answer: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None) -> None:
    assert browser.get("/models/pull")["Location"] == "/signin?next=%2Fmodels%2Fpull"


def test_pull_begins_and_leads_to_its_job(
    as_bob: Client, bob: User, registry: FakeRegistry, jobs_wait: None
) -> None:
    answer = post(as_bob, name=f"{registry.host}/lab/tiny:1b")

    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.job_id}"
    assert (job.kind, job.state, job.owner, job.is_detached) == ("pull", "queued", bob, True)
    assert job.model_name == f"{registry.host}/lab/tiny:1b"


def test_password_is_not_stored_as_it_is(
    as_bob: Client, registry: FakeRegistry, jobs_wait: None
) -> None:
    post(as_bob, name=f"{registry.host}/lab/tiny", username="me", password="hunter2hunter2")

    arguments = Job.objects.get().arguments
    assert "hunter2" not in arguments
    assert json.loads(arguments)["username"] == "me"


def test_plain_http_is_asked_for(as_bob: Client, registry: FakeRegistry, jobs_wait: None) -> None:
    post(as_bob, name=f"{registry.host}/lab/tiny", is_insecure="on")

    assert json.loads(Job.objects.get().arguments)["is_insecure"] is True


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "Write the name of a model."),
        ("not a name!", "This is no name of a model."),
        ("evil.example/lab/tiny", "The registry 'evil.example' is not allowed here"),
        ("library/other", "You may not write to the namespace 'library'"),
        ("x" * 701, "at most 700 characters"),
    ],
)
def test_refusal_is_told_and_what_was_typed_is_kept(
    as_bob: Client, registry: FakeRegistry, name: str, told: str
) -> None:
    answer = post(as_bob, name=name, username="me", password="a secret")

    assert answer.status_code == 400
    assert told in words(answer)
    text = answer.content.decode()
    assert f'value="{html.escape(name)}"' in text
    assert 'aria-invalid="true"' in text
    assert 'value="me"' in text
    assert "a secret" not in text
    assert not Job.objects.exists()


def test_too_many_waiting_jobs_are_told(
    as_bob: Client, bob: User, registry: FakeRegistry, jobs_wait: None
) -> None:
    for number in range(16):
        share = str(number)
        Job.objects.create(job_id=share, kind="pull", owner=bob, share_key=share, arguments="{}")

    answer = post(as_bob, name=f"{registry.host}/lab/tiny")

    assert answer.status_code == 400
    assert "too many of your jobs are waiting" in words(answer)


def test_name_is_looked_at_while_it_is_typed(as_bob: Client, registry: FakeRegistry) -> None:
    told = words(post(as_bob, "/models/pull/check", name=f"{registry.host}/lab/tiny:1b"))

    assert f"Comes from {registry.host} (lab/tiny, tag 1b)" in told
    assert f"stored as {registry.host}/lab/tiny:1b" in told
    assert "here already" not in told
    assert not Job.objects.exists()


def test_model_that_is_here_is_said_to_be(
    as_alice: Client, registry: FakeRegistry, settings: Settings
) -> None:
    settings.DEFAULT_REGISTRY = f"http://{registry.host}"
    add_model("tiny:1b")

    told = words(post(as_alice, "/models/pull/check", name="tiny:1b"))

    assert "stored as tiny:1b" in told
    assert "It is here already" in told


def test_others_private_model_is_not_said_to_be_here(
    as_bob: Client, alice: User, registry: FakeRegistry
) -> None:
    add_model("alice/private:latest", owner_id=alice.pk)

    there = words(post(as_bob, "/models/pull/check", name="alice/private"))
    missing = words(post(as_bob, "/models/pull/check", name="alice/missing"))

    assert there == missing.replace("missing", "private")


def test_refused_name_is_told_while_it_is_typed(as_bob: Client, registry: FakeRegistry) -> None:
    text = post(as_bob, "/models/pull/check", name="evil.example/<b>x").content.decode()

    assert "This is no name of a model" in text
    assert "<b>" not in text


def test_name_of_a_link_is_filled_in_and_nothing_begins(as_bob: Client) -> None:
    text = as_bob.get("/models/pull?name=%22%3E%3Cscript%3E").content.decode()

    assert 'value="&quot;&gt;&lt;script&gt;"' in text
    assert not Job.objects.exists()


def test_site_that_goes_nowhere_says_so(as_bob: Client) -> None:
    assert "This site goes to no other registry" in words(as_bob.get("/models/pull"))


def test_looking_asks_the_database_little(
    as_bob: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    as_bob.get("/models/pull")
    with django_assert_num_queries(3):  # session, user, teams
        as_bob.get("/models/pull")


@pytest.mark.parametrize(
    ("size_bytes", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (9_949, "9.9 KB"),
        (9_951, "10 KB"),
        (999_600, "1.0 MB"),
        (4_200_000_000, "4.2 GB"),
        (2 * 10**15, "2000 TB"),
    ],
)
def test_sizes_in_words(size_bytes: int, told: str) -> None:
    assert size_in_words(size_bytes) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min"),
        (3570, "1 h"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90_000, "more than a day"),
    ],
)
def test_times_in_words(seconds: float, told: str) -> None:
    assert duration_in_words(seconds) == told


def test_percent_stays_in_its_bounds() -> None:
    assert [percent(0, 0), percent(1, 3), percent(5, 3), percent(3, 3)] == [0, 33, 100, 100]
