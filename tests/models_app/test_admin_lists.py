"""The lists under /admin/ ask the database as often for thirty rows as for one."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from models_app import audit
from models_app.accounts import create_user
from models_app.admin.library import TagAdmin
from models_app.keys import create_key
from models_app.models import (
    Alias,
    ClientKey,
    Invite,
    Job,
    LanguageModel,
    LedgerEntry,
    LedgerHour,
    LimitRule,
    Manifest,
    Namespace,
    Node,
    Tag,
    Team,
    Upstream,
    User,
)
from tests.models_app.admin_pages import HOME, TABLES, address_of, browser_of, text_of

pytestmark = pytest.mark.django_db
MANY: Final = 30


def _owner(number: int) -> User:
    return create_user(f"user{number}", None)


def _model(number: int) -> LanguageModel:
    return LanguageModel.objects.create(name=f"model{number}", owner=_owner(number))


def _tag(number: int) -> None:
    manifest = Manifest.objects.create(digest=f"{number:064x}", body=b"{}", size_bytes=number)
    Tag.objects.create(model=_model(number), name="7b", manifest=manifest)


def _key(number: int) -> None:
    create_key(_owner(number), "laptop")


def _client_key(number: int) -> None:
    ClientKey.objects.create(owner=_owner(number), name="cli", fingerprint=f"{number:064x}")


def _job(number: int) -> None:
    Job.objects.create(job_id=f"{number:032x}", kind="pull", owner=_owner(number), share_key=number)


def _hour(number: int) -> None:
    LedgerHour.objects.create(hour=timezone.now() - timedelta(hours=number), user_id=number)


def _entry(number: int) -> None:
    now = timezone.now()
    LedgerEntry.objects.create(request_id=str(number), began_at=now, ended_at=now)


def _invite(number: int) -> None:
    Invite.objects.create(
        token_hash=f"{number:064x}",
        team=Team.objects.create(name=f"team{number}"),
        created_by=_owner(number),
        expires_at=timezone.now(),
    )


def _rule(number: int) -> None:
    user = _owner(number)
    LimitRule.objects.create(subject="user", user=user, unit="parallel", amount=number + 1)


def _team(number: int) -> None:
    Team.objects.create(name=f"team{number}")


def _alias(number: int) -> None:
    Alias.objects.create(name=f"alias{number}:latest", target="model:7b")


def _namespace(number: int) -> None:
    Namespace.objects.create(name=f"space{number}", quota_bytes=number)


def _upstream(number: int) -> None:
    Upstream.objects.create(name=f"gpu{number}", url="http://gpu/v1", kind="vllm")


def _node(number: int) -> None:
    Node.objects.create(name=f"gpu{number}", token_digest=f"{number:064x}")


def _act(number: int) -> None:
    audit.record("key.create", str(number), by=None)


MAKERS: Final[dict[str, Callable[[int], Any]]] = {
    "user": _owner,
    "team": _team,
    "invite": _invite,
    "apikey": _key,
    "clientkey": _client_key,
    "limitrule": _rule,
    "tag": _tag,
    "languagemodel": _model,
    "alias": _alias,
    "namespace": _namespace,
    "upstream": _upstream,
    "node": _node,
    "job": _job,
    "ledgerhour": _hour,
    "ledgerentry": _entry,
    "auditentry": _act,
}


@pytest.fixture
def browser(admin: User) -> Client:
    client = browser_of(admin)
    client.get("/admin/")  # what is looked up once and known from then on
    return client


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of what is in memory, and each time that it was asked for, an empty text."""
    found = [f"{1:064x}"]

    def ask() -> list[str]:
        found.append("")
        return found

    monkeypatch.setattr(TagAdmin, "loaded_digests", staticmethod(ask))
    return found


def queries_of(client: Client, table: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert client.get(f"{HOME}/{table}/").status_code == 200
    return len(queries)


def test_every_list_has_its_makers() -> None:
    assert set(MAKERS) == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_list_costs_as_many_queries_for_many_rows_as_for_one(browser: Client, table: str) -> None:
    make = MAKERS[table]
    make(0)
    queries_of(browser, table)
    of_one = queries_of(browser, table)
    for number in range(1, MANY):
        make(number)

    assert queries_of(browser, table) == of_one
    assert of_one <= 12


@pytest.mark.parametrize("table", ["job", "ledgerhour", "ledgerentry", "auditentry"])
def test_rows_that_may_be_millions_are_not_counted(browser: Client, table: str) -> None:
    MAKERS[table](0)
    with CaptureQueriesContext(connection) as queries:
        browser.get(f"{HOME}/{table}/")

    assert [query["sql"] for query in queries if "COUNT(" in query["sql"]] == []


def test_node_is_asked_once_for_a_page(browser: Client, loaded: list[str]) -> None:
    for number in range(3):
        _tag(number)
    page = text_of(browser.get(f"{HOME}/tag/"))

    assert loaded.count("") == 1
    assert re.findall(r">\s*(loaded)\s*<", page) == ["loaded"]


def test_list_works_when_no_node_answers(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TagAdmin, "loaded_digests", staticmethod(lambda: None))
    _tag(0)

    assert "no node answers" in text_of(browser.get(f"{HOME}/tag/"))


@pytest.mark.parametrize("table", TABLES)
def test_search_finds_or_finds_nothing(browser: Client, table: str) -> None:
    asked = ["bob", "7", "model:7b", "x' OR 1=1", "\x00"]
    answers = [browser.get(f"{HOME}/{table}/", {"q": text}).status_code for text in asked]

    assert set(answers) <= {200, 302}


def test_ledger_is_searched_by_the_name_of_a_user(browser: Client, bob: User) -> None:
    now = timezone.now()
    for request_id, user in (("one", bob.pk), ("two", 0)):
        LedgerEntry.objects.create(
            request_id=request_id, began_at=now, ended_at=now, user_id=user, model_name=request_id
        )
    page = text_of(browser.get(f"{HOME}/ledgerentry/", {"q": "BOB"}))

    assert ">one<" in page
    assert ">two<" not in page


@pytest.mark.parametrize(("table", "act"), [("user", "delete"), ("team", "delete")])
def test_page_that_asks_costs_no_more_for_very_many_rows(
    browser: Client, table: str, act: str
) -> None:
    for number in range(MANY):
        MAKERS[table](number)
    model = {"user": User, "team": Team}[table]
    rows = list(model._default_manager.order_by("pk"))
    with CaptureQueriesContext(connection) as queries:
        page = text_of(browser.get(address_of(table, act, *rows)))

    assert str(rows[-1]) in page
    assert len(queries) <= 12
