"""The admin page of namespaces: what it shows, takes and refuses."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from models_app.models import Namespace, User
from models_app.namespaces import NamespaceRules, remove_rules, rules_of, set_rules
from models_app.permissions import CredentialKind, SiteRole
from models_app.principals import principal_of_user
from models_app.services import record_upload
from ollamasite.errors import Forbidden
from tests.models_app.admin_pages import browser_of, staff
from tests.models_app.people_cast import recorded

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


def test_operator_who_removes_rules_is_recorded(alice: User) -> None:
    one, *others = [Namespace.objects.create(name=name, quota_bytes=1) for name in "abc"]
    operator = browser_of(staff("olga", SiteRole.OPERATOR))
    operator.post(f"{PAGE}{one.pk}/delete/", {"post": "yes"})
    chosen = [row.pk for row in others]
    operator.post(PAGE, {"action": "delete_selected", "_selected_action": chosen, "post": "yes"})

    assert not Namespace.objects.exists()
    assert sorted(recorded("namespace.remove")) == [("olga", "a"), ("olga", "b"), ("olga", "c")]


def test_namespace_without_rules_has_those_of_the_site(alice: User) -> None:
    rules = NamespaceRules(name="alice", quota_bytes=1, immutable_tags="v*", kept_tags=3)
    set_rules(rules)
    remove_rules("ALICE")

    assert rules_of("alice") == NamespaceRules(
        name="alice", quota_bytes=None, immutable_tags="", kept_tags=None
    )


def test_rules_are_for_those_who_look_after_the_site(alice: User) -> None:
    rules = NamespaceRules(name="alice", quota_bytes=None, immutable_tags="", kept_tags=None)
    by = principal_of_user(alice, CredentialKind.SESSION)

    with pytest.raises(Forbidden):
        set_rules(rules, by=by)
    with pytest.raises(Forbidden):
        remove_rules("alice", by=by)


@pytest.mark.django_db(transaction=True)
def test_form_that_is_sent_is_one_act(browser: Client) -> None:
    made = browser.post(f"{PAGE}add/", form(name="library"))
    row = Namespace.objects.get()
    changed = browser.post(f"{PAGE}{row.pk}/change/", form(kept_tags="3"))
    removed = browser.post(f"{PAGE}{row.pk}/delete/", {"post": "yes"})

    assert [made.status_code, changed.status_code, removed.status_code] == [302] * 3
    assert recorded("namespace.set") == [("root", "library")] * 2
    assert recorded("namespace.remove") == [("root", "library")]
