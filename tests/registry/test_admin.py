"""What is done with models and jobs on the pages under /admin/."""

import pytest
from django.test import Client

from models_app.models import Job, LanguageModel, Tag, User
from models_app.permissions import SiteRole
from tests.conftest import MakeModel
from tests.models_app.admin_pages import HOME, address_of, browser_of, staff, text_of
from tests.models_app.people_cast import recorded

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(db: None) -> Client:
    return browser_of(staff("olga", SiteRole.OPERATOR))


def tag_of(name: str) -> Tag:
    return Tag.objects.get(model__name=name)


def a_job(owner: User, state: str) -> Job:
    return Job.objects.create(
        job_id="a" * 32,
        kind="pull",
        state=state,
        owner=owner,
        model_name="llama3:8b",
        share_key="b" * 64,
        arguments='{"name": "llama3:8b"}',
    )


def test_model_of_the_library_is_copied(operator: Client, make_model: MakeModel) -> None:
    make_model("tiny")
    operator.post(address_of("tag", "copy", tag_of("tiny")), {"name": "smaller:1b"})

    assert tag_of("smaller").name == "1b"
    assert recorded("model.copy") == [("olga", "smaller:1b")]


def test_models_of_the_library_are_deleted(operator: Client, make_model: MakeModel) -> None:
    for name in ("one", "two", "three"):
        make_model(name)
    operator.post(address_of("tag", "delete", tag_of("one"), tag_of("two")))

    assert list(LanguageModel.objects.values_list("name", flat=True)) == ["three"]
    assert len(recorded("model.delete")) == 2


@pytest.mark.parametrize("act", ["copy", "delete", "load"])
def test_private_model_of_somebody_else_is_shown_and_left_alone(
    operator: Client, bob: User, make_model: MakeModel, act: str
) -> None:
    make_model("bob/diary", bob, system="dear diary")
    tag = tag_of("diary")
    answer = operator.post(address_of("tag", act, tag), {"name": "mine"})
    shown = text_of(operator.get(f"{HOME}/tag/{tag.pk}/change/"))

    assert "private model of somebody else" in text_of(answer)
    assert LanguageModel.objects.count() == 1
    assert "bob/diary:latest" in shown
    assert "dear diary" not in shown


def test_mirror_of_somebody_else_is_not_taken_for_the_own_one(
    operator: Client, bob: User, make_model: MakeModel
) -> None:
    olga = User.objects.get(username="olga")
    for owner in (olga, bob):
        make_model("hf.co/nomic/embed", owner)
    theirs = Tag.objects.get(model__owner=bob)
    answer = operator.post(address_of("tag", "delete", theirs))

    assert "private model of somebody else" in text_of(answer)
    assert Tag.objects.count() == 2


def test_job_of_somebody_is_cancelled_and_begun_again(
    operator: Client, bob: User, jobs_wait: None
) -> None:
    job = a_job(bob, "queued")
    operator.post(address_of("job", "cancel", job))
    job.refresh_from_db()

    assert job.state == "cancelled"
    assert recorded("job.cancel") == [("olga", "llama3:8b")]
    operator.post(address_of("job", "retry", job))
    job.refresh_from_db()
    assert job.state == "queued"
    assert recorded("job.retry") == [("olga", "llama3:8b")]


@pytest.mark.parametrize(("act", "kind"), [("verify", "verify"), ("collect", "gc")])
def test_store_is_looked_after_by_jobs(
    operator: Client, jobs_wait: None, act: str, kind: str
) -> None:
    operator.post(address_of("job", act))

    assert Job.objects.get().kind == kind
    assert recorded(f"store.{kind}") == [("olga", "")]


def test_pull_from_a_registry_that_is_not_allowed_says_so(operator: Client) -> None:
    answer = operator.post(address_of("tag", "pull"), {"name": "evil.example/a/b"})

    assert answer.status_code == 200
    assert "evil.example" in text_of(answer)
    assert not Job.objects.exists()


def test_auditor_does_nothing_with_models_and_jobs(bob: User, make_model: MakeModel) -> None:
    make_model("tiny")
    auditor = browser_of(staff("otto", SiteRole.AUDITOR))
    answers = [
        auditor.post(address_of("tag", "delete", tag_of("tiny"))),
        auditor.post(address_of("job", "cancel", a_job(bob, "queued"))),
        auditor.post(address_of("job", "collect")),
    ]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert LanguageModel.objects.exists()
