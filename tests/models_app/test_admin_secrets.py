"""What no page under /admin/ tells, whichever is opened and however it is asked."""

import itertools
from typing import Any, Final

import pytest
from django.contrib.admin import ListFilter
from django.db.models import Field, Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from models_app.admin import site
from models_app.keys import create_key
from models_app.models import (
    Alias,
    ApiKey,
    AuditEntry,
    ClientKey,
    Invite,
    Job,
    LedgerEntry,
    LedgerHour,
    LimitRule,
    Manifest,
    Namespace,
    Node,
    StoredResponse,
    Team,
    Upstream,
    User,
)
from models_app.permissions import SiteRole
from tests.models_app.admin_pages import TABLES, browser_of, staff, text_of
from tests.models_app.people_cast import make_team
from tests.pages.catalogue import STARTER, add_model

pytestmark = pytest.mark.django_db

PLANTED: Final = "dearest"
TABLES_SHOWN: Final = sorted(site._registry.items(), key=lambda item: item[0]._meta.label)
# Of how a field is asked for: all of it, its beginning, a part, in what order, whether it is there.
WAYS: Final = ("", "__startswith", "__contains", "__regex", "__gte", "__isnull", "__in")


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def filters_of(panel: Any) -> set[str]:
    """Return the fields by which a list may be narrowed."""
    found = panel.list_filter
    return {one for one in found if not (isinstance(one, type) and issubclass(one, ListFilter))}


def fields_of(model: type[Model]) -> list[Any]:
    return [field for field in model._meta.get_fields() if isinstance(field, Field)]


@pytest.fixture
def secrets(bob: User) -> list[str]:
    """A row in every table, and what must be on no page: hashes, and texts of bob's."""
    team = Team.objects.get(name=make_team("vision", owner=bob))
    key, secret = create_key(bob, "laptop")
    now = timezone.now()
    digest = add_model(STARTER, owner_id=bob.pk)
    Manifest.objects.filter(digest=digest).update(body=PLANTED.encode())
    ClientKey.objects.create(owner=bob, name="cli", fingerprint="f" * 64)
    Invite.objects.create(token_hash="c0ffee" * 8, team=team, created_by=bob, expires_at=now)
    LimitRule.objects.create(subject="key", key=key, unit="parallel", amount=1)
    LedgerEntry.objects.create(request_id="one", began_at=now, ended_at=now, user_id=bob.pk)
    Alias.objects.create(name="fast:latest", target=STARTER)
    Node.objects.create(name="gpu1", token_digest="c0ffee" * 8, secret_salt="c0ffee" * 5)
    Namespace.objects.create(name="bob", quota_bytes=1)
    LedgerHour.objects.create(hour=now, user_id=bob.pk)
    Upstream.objects.create(name="gpu", url="http://gpu/v1", kind="vllm", sealed_key=PLANTED)
    Job.objects.create(
        job_id="a" * 32,
        kind="create",
        state="failed",
        owner=bob,
        model_name="bob/diary",
        share_key="b" * 64,
        arguments=f'{{"system": "{PLANTED}"}}',
        events=f'[{{"status": "{PLANTED}"}}]',
        error={"code": "invalid_template", "status": 400, "message": f"no {PLANTED} is known"},
    )
    StoredResponse.objects.create(
        response_id="resp_1",
        root_id="resp_1",
        owner=bob,
        size_bytes=1,
        input=PLANTED,
        body=PLANTED,
    )
    hashes = [User.objects.get(pk=bob.pk).password, ApiKey.objects.get(pk=key.pk).secret_hash]
    return [PLANTED, secret, "c0ffee", *hashes]


def test_every_table_that_is_shown_is_known_here() -> None:
    assert {model._meta.model_name for model, _ in TABLES_SHOWN} == set(TABLES)


def test_texts_of_people_have_no_page() -> None:
    assert not site.is_registered(StoredResponse)
    assert not site.is_registered(Manifest)


@pytest.mark.parametrize(("model", "panel"), TABLES_SHOWN, ids=str)
@pytest.mark.usefixtures("secrets")
def test_list_is_narrowed_by_its_filters_alone(model: type[Model], panel: Any, admin: User) -> None:
    client = browser_of(admin)
    hidden = [field.name for field in fields_of(model) if field.name not in filters_of(panel)]
    # Each field over the whole site in one way, the ways in turn; in all ways where it is decided.
    asked = [f"{name}{way}" for name, way in zip(hidden, itertools.cycle(WAYS), strict=False)]
    statuses = {text: client.get(list_of(model), {text: "a"}).status_code for text in asked}
    let_in = [
        name + way for name in hidden for way in WAYS if panel.lookup_allowed(name + way, "a")
    ]

    assert hidden
    assert let_in == []
    assert set(statuses.values()) == {400}, statuses


@pytest.mark.parametrize(("model", "panel"), TABLES_SHOWN, ids=str)
@pytest.mark.usefixtures("secrets")
def test_filter_takes_a_whole_value_and_no_part_of_one(
    model: type[Model], panel: Any, admin: User
) -> None:
    client = browser_of(admin)
    for name in filters_of(panel):
        for way in ("__startswith", "__regex", "__owner__password"):
            assert client.get(list_of(model), {f"{name}{way}": "("}).status_code == 400
        assert client.get(list_of(model), {f"{name}__exact": "1"}).status_code == 200


def test_auditor_learns_no_hash_letter_by_letter(secrets: list[str]) -> None:
    client = browser_of(staff("otto", SiteRole.AUDITOR))
    for table, field in (("user", "password"), ("apikey", "secret_hash"), ("invite", "token_hash")):
        answer = client.get(f"/admin/models_app/{table}/", {f"{field}__startswith": "a"})
        assert answer.status_code == 400


def pages_of(client: Client, model: type[Model], panel: Any) -> list[str]:
    """Return every page of a table: its list, searched too, its rows' pages and its acts'."""
    at = list_of(model)
    row = model._default_manager.order_by("-pk").first()
    if row is None:
        return [at]
    forms = [f"{at}{row.pk}/{page}/" for page in ("change", "history", "delete")]
    acts = [f"{at}act/{act.name}/?rows={row.pk}" for act in panel.acts]
    return [at, f"{at}?q=bob", *forms, *acts]


def choices_of(model: type[Model]) -> list[str]:
    """Return the addresses at which forms would look up what they may refer to."""
    label = model._meta
    return [
        f"/admin/autocomplete/?app_label={label.app_label}&model_name={label.model_name}"
        f"&field_name={field.name}&term="
        for field in fields_of(model)
        if field.is_relation
    ]


@pytest.mark.parametrize(("model", "panel"), TABLES_SHOWN, ids=str)
def test_no_page_of_a_table_shows_a_secret_or_a_text(
    model: type[Model], panel: Any, admin: User, secrets: list[str]
) -> None:
    client = browser_of(admin)
    shown = 0
    for address in (*pages_of(client, model, panel), *choices_of(model)):
        answer = client.get(address)
        assert answer.status_code in {200, 302, 403, 404}, address
        shown += answer.status_code == 200
        assert [secret for secret in secrets if secret in text_of(answer)] == [], address

    assert shown >= 3


@pytest.mark.parametrize(("model", "panel"), TABLES_SHOWN, ids=str)
def test_search_finds_nothing_by_a_secret_or_a_text(
    model: type[Model], panel: Any, admin: User, secrets: list[str]
) -> None:
    client = browser_of(admin)
    for secret in secrets:
        page: Any = client.get(list_of(model), {"q": secret})
        assert page.status_code == 200
        assert list(page.context["cl"].result_list) == []


@pytest.mark.parametrize("path", ["/admin/", "/admin/nodes/", "/admin/search/?s=bob"])
def test_no_page_without_a_table_shows_a_secret_or_a_text(
    path: str, admin: User, secrets: list[str]
) -> None:
    text = text_of(browser_of(admin).get(path))

    assert [secret for secret in secrets if secret in text] == []


def test_audit_has_no_secret(secrets: list[str]) -> None:
    told = "".join(f"{row.subject} {row.details}" for row in AuditEntry.objects.all())

    assert "laptop" in told
    assert [secret for secret in secrets if secret in told] == []
