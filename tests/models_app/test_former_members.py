"""What ends with somebody's place in a team, or with their account: keys that they know, jobs."""

import secrets
from collections.abc import Callable

import pytest

from models_app import jobs, keys, people, teams
from models_app.auth import Credentials, authenticate
from models_app.jobs import JobKind, JobState, NewJob
from models_app.keys import KeyRules, create_key
from models_app.models import ApiKey, Job, User
from models_app.permissions import TeamRole
from ollamasite.errors import Forbidden
from tests.models_app.people_cast import make_team, seen_as

pytestmark = pytest.mark.django_db


def demote(bob: User) -> None:
    teams.set_member("vision", "bob", TeamRole.MEMBER, by=None)


def put_out(bob: User) -> None:
    teams.remove_member("vision", "bob", by=None)


def deactivate(bob: User) -> None:
    people.deactivate("bob", by=None)


def delete(bob: User) -> None:
    people.delete_user("bob", by=None)


@pytest.mark.parametrize("end", [demote, put_out, deactivate, delete])
def test_keys_that_a_former_maintainer_knows_end(
    alice: User, bob: User, end: Callable[[User], None]
) -> None:
    make_team("vision", owner=alice, maintainer=bob)
    ci = teams.create_service_account("vision", "ci", TeamRole.MAINTAINER, by=None)
    made = keys.make_key(seen_as(bob), "bobs", KeyRules(), owner_name="ci")
    by_it = authenticate(Credentials(key=made.secret))
    keys.make_key(by_it, "made by it", KeyRules())
    keys.rotate_key(by_it, made.record.prefix)
    keys.make_key(seen_as(alice), "alices", KeyRules(), owner_name="ci")
    assert ApiKey.objects.usable().filter(owner=ci).count() == 4

    end(bob)

    assert [key.name for key in ApiKey.objects.usable().filter(owner=ci)] == ["alices"]


def test_key_that_another_maintainer_has_rotated_stays(alice: User, bob: User) -> None:
    make_team("vision", owner=alice, maintainer=bob)
    teams.create_service_account("vision", "ci", by=None)
    made = keys.make_key(seen_as(bob), "nightly", KeyRules(), owner_name="ci")
    new = keys.rotate_key(seen_as(alice), made.record.prefix)

    put_out(bob)

    assert [key.prefix for key in ApiKey.objects.usable()] == [new.record.prefix]


def test_who_was_a_maintainer_a_moment_ago_makes_no_service_key(alice: User, bob: User) -> None:
    make_team("vision", owner=alice, maintainer=bob)
    teams.create_service_account("vision", "ci", by=None)
    made = keys.make_key(seen_as(alice), "nightly", KeyRules(), owner_name="ci")
    before = seen_as(bob)
    demote(bob)

    with pytest.raises(Forbidden):
        keys.make_key(before, "late", KeyRules(), owner_name="ci")
    with pytest.raises(Forbidden):
        keys.rotate_key(before, made.record.prefix)


def new_job(owner: User, model_name: str, key: ApiKey | None = None) -> str:
    new = NewJob(
        kind=JobKind.PULL,
        owner_id=owner.pk,
        model_name=model_name,
        share_key=secrets.token_hex(32),
        arguments="{}",
        key_id=key.pk if key else None,
    )
    record = jobs.add_or_share(new, most_queued=99)
    assert record is not None
    return record.job_id


def cancelled() -> set[str]:
    return set(Job.objects.filter(state=JobState.CANCELLED).values_list("job_id", flat=True))


@pytest.mark.parametrize("end", [demote, put_out])
def test_jobs_for_the_team_end_with_the_place(
    alice: User, bob: User, end: Callable[[User], None]
) -> None:
    make_team("vision", owner=alice, maintainer=bob)
    of_team = new_job(bob, "Vision/base:latest")
    for other in ("bob/base:latest", "visions/base:latest", "base:latest"):
        new_job(bob, other)
    new_job(alice, "vision/base:latest")

    end(bob)

    assert cancelled() == {of_team}


def test_jobs_by_a_key_for_the_team_end_with_the_place(alice: User, bob: User) -> None:
    make_team("vision", owner=alice, member=bob)
    key, _ = create_key(bob, "for it", KeyRules(team="vision"))
    by_key = new_job(bob, "bob/base:latest", key)
    new_job(bob, "bob/other:latest")

    put_out(bob)

    assert cancelled() == {by_key}
