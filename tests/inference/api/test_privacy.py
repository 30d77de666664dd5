"""What people say to models, and what these answer, is theirs alone.

No administrator, no auditor, no page, no list and no search tells a word of it; no row has one but
the person's own stored answers, no file, and no line of the log.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib import admin as django_admin
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from models_app import admin as admin_pages
from models_app import ledger_writer
from models_app.models import StoredResponse, User
from models_app.permissions import SiteRole
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.conftest import bearer_for

pytestmark = pytest.mark.django_db(transaction=True)

ASKED, ANSWERED = "zebra-xylophone", "quokka-marimba"
# Half of each is looked for: a page may repeat what one has searched for, not what follows it.
SEARCHED = ("zebra", "quokka")
HIDDEN = ("xylophone", "marimba")
MESSAGES = [{"role": "system", "content": ASKED}, {"role": "user", "content": ASKED}]
PARAMETERS = {"type": "object", "properties": {"a": {"type": "string", "description": ASKED}}}
TOOL = {"name": "f", "description": ASKED, "parameters": PARAMETERS}
SAID: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"prompt": ASKED, "system": ASKED, "suffix": "", "format": PARAMETERS}),
    ("/api/generate", {"prompt": ASKED, "options": {"stop": [ASKED], "seed": 7}}),
    ("/api/chat", {"messages": MESSAGES}),
    ("/api/embed", {"input": [ASKED]}),
    ("/v1/chat/completions", {"messages": MESSAGES, "stop": [ASKED], "user": ASKED}),
    ("/v1/completions", {"prompt": ASKED}),
    ("/v1/messages", {"messages": MESSAGES[1:], "system": ASKED, "max_tokens": 5}),
    ("/v1/responses", {"input": ASKED, "instructions": ASKED, "metadata": {"a": ASKED}}),
    # Refused: what was wrong is told to whoever wrote it, and to nobody else.
    ("/api/chat", {"messages": [{"role": ASKED, "content": ASKED}], "tools": [TOOL]}),
    ("/v1/chat/completions", {"messages": ASKED}),
    ("/api/generate", {"prompt": ASKED, "options": {"temperature": ASKED}}),
    ("/v1/chat/completions", {"messages": MESSAGES, "temperature": ASKED}),
]


@pytest.fixture
async def conversation(
    node: FakeNode, model: str, alice: User, caplog: pytest.LogCaptureFixture
) -> str:
    """Everything that Alice has said to a model and been answered; the id of a stored answer."""
    caplog.set_level(logging.DEBUG)
    node.default = Script(pieces=(ANSWERED, " ", ANSWERED))
    api = AsgiClient(await sync_to_async(bearer_for)(alice))
    for path, body in SAID:
        for is_streamed in (False, True):
            await api.post(path, {"model": model, "stream": is_streamed, **body})
    await sync_to_async(ledger_writer.write_pending)()
    stored = await StoredResponse.objects.afirst()
    assert stored is not None
    assert ASKED in stored.input
    assert ANSWERED in stored.body
    return stored.response_id


@pytest.fixture
def watchers(admin: User) -> list[User]:
    """Everybody who looks after the site, or after what happens on it."""
    found = [admin]
    for role in (SiteRole.OPERATOR, SiteRole.AUDITOR):
        user = User.objects.create_user(str(role), is_active=True)
        User.objects.filter(pk=user.pk).update(site_role=role)
        found.append(User.objects.get(pk=user.pk))
    return found


def session_of(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    cookie = f"ollamasite_session={client.cookies['ollamasite_session'].value}"
    token = "a" * 32
    return {"cookie": f"{cookie}; csrftoken={token}", "x-csrftoken": token, "accept": "text/html"}


def routes(patterns: Any, before: str = "") -> Iterator[str]:
    """Return every route of a URLconf."""
    for pattern in patterns:
        route = f"{before}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def paths_of(response_id: str) -> list[str]:
    """Return every path that can be asked for, with what Alice has in place of its parts."""
    parts = {"<str:response_id>": response_id, "<path:name>": "smollm2:135m", "<str:name>": "alice"}
    found = []
    for route in routes(get_resolver().url_patterns):
        filled = route
        for part, value in parts.items():
            filled = filled.replace(part, value)
        if "<" not in filled and "(" not in filled:
            found.append(f"/{filled}")
    return found


def admin_paths() -> list[str]:
    """Return the lists of the admin pages, searches of them, and the page of every row."""
    found = []
    for model, page in admin_pages.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        found.append(base)
        if page.search_fields:
            found += [f"{base}?q={text}" for text in SEARCHED]
        rows = model._default_manager.values_list("pk", flat=True)[:20]
        found += [f"{base}{pk}/{view}/" for pk in rows for view in ("change", "history", "delete")]
    return found


async def test_nobody_who_looks_after_the_site_is_told_a_word(
    conversation: str, watchers: list[User], alice: User
) -> None:
    path = f"/v1/responses/{conversation}"
    own = await AsgiClient(await sync_to_async(bearer_for)(alice)).get(path)
    assert HIDDEN[1] in own.text
    paths = paths_of(conversation) + await sync_to_async(admin_paths)()
    assert path in paths
    for user in watchers:
        headers = await sync_to_async(session_of)(user)
        await assert_silent(AsgiClient(headers), paths)


async def test_administrators_key_and_searches_find_no_word(conversation: str, admin: User) -> None:
    paths = [f"{path}?q={SEARCHED[0]}&all=1" for path in paths_of(conversation)]
    await assert_silent(AsgiClient(await sync_to_async(bearer_for)(admin)), paths)


async def assert_silent(client: AsgiClient, paths: list[str]) -> None:
    for path in paths:
        answer = await client.get(path)
        assert not [word for word in HIDDEN if word in answer.text], path


async def test_stored_answers_of_others_do_not_exist(
    conversation: str, watchers: list[User], bob: User
) -> None:
    for user in (*watchers, bob):
        client = AsgiClient(await sync_to_async(bearer_for)(user))
        for method, path in (
            ("GET", ""),
            ("GET", "/input_items"),
            ("DELETE", ""),
            ("POST", "/cancel"),
        ):
            answer = await client.request(method, f"/v1/responses/{conversation}{path}", data={})
            assert answer.status == 404, (user, method, path)
        body = {"model": "smollm2:135m", "input": "go on", "previous_response_id": conversation}
        assert (await client.post("/v1/responses", body)).status == 400


def test_table_of_stored_answers_has_no_page(db: None) -> None:
    for site in (admin_pages.site, django_admin.site):
        assert StoredResponse not in site._registry


def rows_of(table: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - our names
        return list(cursor.fetchall())


async def test_no_row_but_the_stored_answers_has_a_word(conversation: str) -> None:
    def check() -> None:
        tables = connection.introspection.table_names()
        assert "models_app_ledgerentry" in tables
        assert rows_of("models_app_ledgerentry")
        for table in set(tables) - {StoredResponse._meta.db_table}:
            text = repr(rows_of(table))
            assert not [word for word in HIDDEN if word in text], table

    await sync_to_async(check)()


async def test_no_line_of_the_log_has_a_word(
    conversation: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    output = capfd.readouterr()
    for text in (caplog.text, output.out, output.err):
        assert not [word for word in HIDDEN if word in text]


async def test_no_file_has_a_word(conversation: str, tmp_path: Path) -> None:
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in files:
        content = path.read_bytes()
        assert not [word for word in HIDDEN if word.encode() in content], path
