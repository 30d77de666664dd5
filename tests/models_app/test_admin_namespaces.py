"""The admin page of namespaces: what it shows, takes and refuses."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from models_app.models import Namespace, User
from models_app.services import record_upload

pytestmark = pytest.mark.django_db
PAGE = "/admin/models_app/namespace/"


@pytest.fixture
def browser(client: Client, admin: User) -> Client:
    # It remembers rows that went with the test before.
    ContentType.objects.clear_cache()
    client.force_login(admin)
    return client


def form(**given: str) -> dict[str, str]:
    return {"name": "alice", "quota_bytes": "2048", "immutable_tags": "", "kept_tags": "", **given}


def test_rules_are_made_and_shown_with_what_the_namespace_holds(
    browser: Client, alice: User
) -> None:
    record_upload(alice.pk, "a" * 64, 1536)
    made = browser.post(f"{PAGE}add/", form(immutable_tags=" v*   r* "))
    row = Namespace.objects.get()
    shown = browser.get(f"{PAGE}{row.pk}/change/").content.decode()

    assert made.status_code == 302
    assert row.immutable_tags == "v* r*"
    assert "1.5 KiB" in shown
    assert "2.0 KiB" in browser.get(PAGE).content.decode()


def test_quota_is_written_as_people_write_sizes(browser: Client, alice: User) -> None:
    browser.post(f"{PAGE}add/", form(quota_bytes="1.5 GiB"))

    assert Namespace.objects.get().quota_bytes == 3 * 2**29


def test_rules_are_changed_and_keep_their_name(browser: Client, alice: User) -> None:
    row = Namespace.objects.create(name="alice", quota_bytes=1)
    browser.post(f"{PAGE}{row.pk}/change/", form(name="bob", quota_bytes="", kept_tags="3"))
    row.refresh_from_db()

    assert (row.name, row.quota_bytes, row.kept_tags) == ("alice", None, 3)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": "nobody"}, "is no user"),
        ({"name": ""}, "required"),
        ({"kept_tags": "0"}, "At least one tag"),
        ({"name": "BOB"}, "There are already rules"),
        ({"quota_bytes": "8" + "0" * 18}, "larger than any disk"),
        ({"quota_bytes": "-5"}, "a size such as 200GiB"),
    ],
)
def test_what_cannot_hold_is_refused_with_a_reason(
    browser: Client, alice: User, bob: User, wrong: dict[str, str], why: str
) -> None:
    Namespace.objects.create(name="bob")
    answer = browser.post(f"{PAGE}add/", form(**wrong))

    assert answer.status_code == 200
    assert why in answer.content.decode()
    assert Namespace.objects.count() == 1
