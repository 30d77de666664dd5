"""The pages of the API: they tell the whole document, and their examples are what they seem."""

import json
import re
import shlex
from html import unescape

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from models_app.keys import create_key
from models_app.models import User
from ollamasite import openapi_examples as examples
from ollamasite.openapi import document
from ollamasite.openapi_shown import OperationShown, by_id, found, groups

BASE_URL = "http://models.internal:8080"
EVERY = [shown for group in groups() for shown in group.operations]


def text_of(client: Client, path: str) -> str:
    return " ".join(client.get(path).content.decode().split())


def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None) -> None:
    assert browser.get("/api-docs")["Location"] == "/signin?next=%2Fapi-docs"
    assert browser.get("/api-docs/post_api_chat").status_code == 302


def test_any_key_opens_it(bob: User) -> None:
    _, secret = create_key(bob, "test")
    answer = Client().get("/api-docs", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 200


def test_every_operation_of_the_document_is_there_once() -> None:
    told = [
        (method.upper(), path)
        for path, methods in document()["paths"].items()
        for method in methods
    ]
    assert sorted((shown.method, shown.path) for shown in EVERY) == sorted(told)
    assert len(by_id()) == len(told)
    assert [group.name for group in groups() if not group.operations] == []


def test_overview_leads_to_every_operation(as_bob: Client) -> None:
    text = text_of(as_bob, "/api-docs")
    assert [shown.id for shown in EVERY if f'href="/api-docs/{shown.id}"' not in text] == []


@pytest.mark.parametrize("shown", EVERY, ids=lambda shown: shown.id)
def test_every_operation_has_a_page(as_bob: Client, shown: OperationShown) -> None:
    text = text_of(as_bob, f"/api-docs/{shown.id}")
    assert f"<code>{shown.path}</code> </h1>" in text
    assert shown.summary in unescape(text)
    assert "`" not in shown.summary + shown.access


def test_unknown_operation_is_not_found(as_bob: Client) -> None:
    assert as_bob.get("/api-docs/nothing").status_code == 404


def test_page_is_only_read(as_bob: Client) -> None:
    token = re.search(r'"X-CSRFToken": "(\w+)"', as_bob.get("/api-docs").content.decode())
    assert token
    answer = as_bob.post("/api-docs", headers={"X-CSRFToken": token[1]})
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_fields_tell_their_types_what_is_wanted_and_what_is_in_them() -> None:
    fields = {field.name: field for field in by_id()["post_api_chat"].fields}
    assert fields["model"].is_required
    assert fields["messages"].kind == "list of object"
    assert fields["messages[].role"].kind == "string"
    assert fields["stream"].default == "true"
    assert not fields["stream"].is_required
    assert [name for name in fields if name.startswith("_")] == []
    assert len(fields) == len(by_id()["post_api_chat"].fields)


def test_parameters_tell_their_values() -> None:
    fields = {field.name: field for field in by_id()["get_api_jobs"].query_parameters}
    assert fields["state"].kind == '"active" | "ended"'
    assert fields["limit"].default == "50"


def test_search_finds_what_has_all_words(as_bob: Client) -> None:
    assert {shown.id for group in found("Rotate keys") for shown in group.operations} == {
        "post_api_keys_prefix_rotate"
    }
    text = text_of(as_bob, "/api-docs?q=rotate+keys")
    assert "/api-docs/post_api_keys_prefix_rotate" in text
    assert "/api-docs/post_api_chat" not in text


def test_search_without_success_shows_the_way_on(as_bob: Client) -> None:
    text = text_of(as_bob, "/api-docs?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "Show all operations" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("shown", EVERY, ids=lambda shown: shown.id)
def test_examples_are_commands_and_programs(shown: OperationShown) -> None:
    words = shlex.split(examples.curl(shown, BASE_URL).replace("\\\n", " "))
    assert words[0] == "curl"
    assert [word for word in words if word.startswith(BASE_URL)]
    if shown.example is not None:
        assert json.loads(words[words.index("-d") + 1]) == shown.example
    compile(examples.python(shown, BASE_URL), shown.id, "exec")


@pytest.mark.parametrize("shown", EVERY, ids=lambda shown: shown.id)
def test_clients_have_the_methods_that_the_examples_call(shown: OperationShown) -> None:
    package = examples.python_package(shown)
    called = re.search(r"client\.([\w.]+)\(", examples.python(shown, BASE_URL))
    assert bool(package) == bool(called)
    if package in {"ollama", "openai"} and called:
        client = pytest.importorskip(package)
        at = client.Client() if package == "ollama" else client.OpenAI(api_key="x")
        for name in called[1].split("."):
            at = getattr(at, name)
        assert callable(at)


def test_shell_quotes_hold_what_is_in_a_body() -> None:
    assert examples._quoted("it's") == "'it'\\''s'"


def test_examples_carry_the_address_that_the_browser_uses(as_bob: Client) -> None:
    page = as_bob.get("/api-docs/post_api_chat", headers={"host": "models.example.internal:8080"})
    text = unescape(page.content.decode())
    assert "curl http://models.example.internal:8080/api/chat" in text
    assert 'host="http://models.example.internal:8080"' in text
    assert "export OLLAMA_HOST=http://models.example.internal:8080" in text


def test_what_deletes_asks_first(as_bob: Client) -> None:
    assert 'id="try-sure" type="checkbox" required' in text_of(
        as_bob, "/api-docs/post_api_me_delete"
    )
    assert "try-sure" not in text_of(as_bob, "/api-docs/post_api_chat")


@pytest.mark.parametrize("path", ["/api-docs", "/api-docs/post_v1_responses"])
def test_pages_need_no_query_of_their_own(
    as_bob: Client, path: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    as_bob.get(path)
    with django_assert_num_queries(3):  # session, user, teams
        as_bob.get(path)
