"""Who opens which page under /admin/, and what no page shows."""

import pytest
from django.test import Client

from models_app.admin import site
from models_app.keys import create_key
from models_app.models import ApiKey, Invite, Job, User
from models_app.permissions import SiteRole
from tests.models_app.admin_pages import (
    AUDITORS_TABLES,
    HOME,
    OPERATORS_TABLES,
    TABLES,
    address_of,
    browser_of,
    staff,
    text_of,
)

pytestmark = pytest.mark.django_db

CHANGING = [
    ("user", "new"),
    ("team", "new"),
    ("invite", "new"),
    ("limitrule", "set"),
    ("upstream", "add"),
]


def opened(client: Client) -> set[str]:
    """Return the tables that somebody may look at; others answer 403."""
    answers = {table: client.get(f"{HOME}/{table}/").status_code for table in TABLES}
    assert set(answers.values()) <= {200, 403}
    return {table for table, status in answers.items() if status == 200}


def test_administrator_opens_every_page(admin: User) -> None:
    client = browser_of(admin)

    assert opened(client) == set(TABLES)
    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/nodes/").status_code == 200


def test_operator_opens_the_pages_of_models_and_work(db: None) -> None:
    client = browser_of(staff("olga", SiteRole.OPERATOR))

    assert opened(client) == OPERATORS_TABLES
    assert client.get("/admin/nodes/").status_code == 200


def test_auditor_opens_the_pages_of_people_and_records(db: None) -> None:
    client = browser_of(staff("otto", SiteRole.AUDITOR))

    assert opened(client) == AUDITORS_TABLES
    assert client.get("/admin/nodes/").status_code == 403


def test_others_open_nothing(bob: User) -> None:
    client = browser_of(bob)

    assert client.get("/admin/").status_code == 403
    assert client.get(f"{HOME}/tag/").status_code == 403
    assert client.get("/admin/nodes/").status_code == 403


def test_key_of_an_administrator_opens_no_page(admin: User) -> None:
    _, secret = create_key(admin, "laptop")
    bearer = {"Authorization": f"Bearer {secret}"}

    assert Client().get(f"{HOME}/user/", headers=bearer).status_code == 403


@pytest.mark.parametrize(("table", "act"), CHANGING)
def test_auditor_and_operator_change_nobody(table: str, act: str) -> None:
    for role in (SiteRole.AUDITOR, SiteRole.OPERATOR):
        client = browser_of(staff(f"staff-{role}", role))

        assert client.get(address_of(table, act)).status_code == 403
        assert client.post(address_of(table, act), {"name": "eve"}).status_code == 403
    assert not User.objects.filter(username="eve").exists()


def test_menu_has_what_one_may_open(db: None) -> None:
    page = text_of(browser_of(staff("olga", SiteRole.OPERATOR)).get("/admin/"))

    assert f'href="{HOME}/tag/"' in page
    assert 'href="/admin/nodes/"' in page
    assert f'href="{HOME}/user/"' not in page


def test_menu_leads_to_every_table(admin: User) -> None:
    page = text_of(browser_of(admin).get("/admin/"))

    tables = [table._meta.model_name for table in site._registry]
    assert [name for name in tables if f'href="{HOME}/{name}/"' not in page] == []


def test_link_to_the_administration_is_for_those_who_may(admin: User, bob: User) -> None:
    auditor = staff("otto", SiteRole.AUDITOR)
    shows = ["/admin/" in text_of(browser_of(user).get("/home")) for user in (admin, auditor, bob)]

    assert shows == [True, True, False]


def test_act_wants_a_form_of_this_site(admin: User, bob: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)

    assert client.post(address_of("user", "deactivate", bob)).status_code == 403
    assert User.objects.get(pk=bob.pk).is_active


def test_looking_at_an_act_does_nothing(admin: User, bob: User) -> None:
    answer = browser_of(admin).get(address_of("user", "deactivate", bob))

    assert answer.status_code == 200
    assert User.objects.get(pk=bob.pk).is_active


@pytest.mark.parametrize("rows", ["", "0", "x", "²", "٣", "99999999999999999999999", "1,2;DROP"])
def test_act_of_rows_that_are_not_there_is_not_found(admin: User, rows: str) -> None:
    del admin
    client = browser_of(User.objects.get(username="root"))
    answer = client.get(f"{HOME}/invite/act/revoke/?rows={rows}")

    assert answer.status_code == 404


def test_unknown_act_is_not_found(admin: User) -> None:
    assert browser_of(admin).get(address_of("user", "promote", admin)).status_code == 404


def test_no_page_shows_a_hash_or_a_password(admin: User, bob: User) -> None:
    key, _ = create_key(bob, "laptop")
    invite = Invite.objects.create(token_hash="c0ffee" * 8, expires_at=key.created_at)
    client = browser_of(admin)
    rows = (("apikey", key.pk), ("invite", invite.pk), ("user", bob.pk))
    pages = [client.get(f"{HOME}/{table}/{pk}/change/") for table, pk in rows]
    text = "".join(map(text_of, pages))

    assert [page.status_code for page in pages] == [200] * 3
    assert ApiKey.objects.get().secret_hash not in text
    assert invite.token_hash not in text
    assert User.objects.get(pk=bob.pk).password not in text


def test_page_of_a_job_does_not_show_what_it_was_told(admin: User, bob: User) -> None:
    row = Job.objects.create(
        job_id="a" * 32,
        kind="create",
        owner=bob,
        model_name="bob/diary",
        share_key="b" * 64,
        arguments='{"system": "dear diary"}',
        events='[{"status": "dear reader"}]',
    )
    client = browser_of(admin)
    pages = [client.get(f"{HOME}/job/"), client.get(f"{HOME}/job/{row.pk}/change/")]
    text = "".join(map(text_of, pages))

    assert "bob/diary" in text
    assert "dear" not in text


def test_password_is_changed_where_everybody_changes_it(admin: User) -> None:
    answer = browser_of(admin).get("/admin/password_change/")

    assert (answer.status_code, answer["Location"]) == (302, "/password")
