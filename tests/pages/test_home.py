"""The home page, as the server writes it."""

import html
import json
import re
import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.test import AsyncClient, Client
from msgspec import structs
from pytest_django import DjangoAssertNumQueries, Settings

from inference.fleet import engine_fleet
from inference.messages import LoadedModel
from models_app.accounts import create_user
from models_app.keys import create_key
from models_app.models import User
from ollamasite.security_headers import CONTENT_SECURITY_POLICY
from tests.fakes.engine import FakeNode, running_node
from tests.pages.catalogue import PASSWORD, STARTER, add_model

LOADED = LoadedModel(
    name=STARTER,
    digest="",
    size_bytes=312_000_000,
    size_vram_bytes=0,
    context_length=4096,
    expires_in_s=272.0,
)


def snippet(page: Any, name: str) -> str:
    """Return a snippet as the copy button would."""
    found = re.search(rf'<code id="{name}">(.*?)</code>', page.content.decode(), re.DOTALL)
    assert found
    return html.unescape(found[1]).strip()


def section(page: Any, name: str) -> str:
    """Return the words of one section, single-spaced and without markup."""
    found = re.search(rf'<section[^>]*"{name}-title">(.*?)</section>', page.content.decode(), re.S)
    assert found
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[1])).split())


def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None) -> None:
    assert browser.get("/home")["Location"] == "/signin?next=%2Fhome"


def test_models_are_listed_with_what_one_chooses_by(as_bob: Client) -> None:
    add_model(STARTER, size_bytes=144_811_234, context_length=8192)
    words = section(as_bob.get("/home"), "models")
    assert f"{STARTER} 145 MB 134.52M Q4_1 8K just now" in words


def test_other_peoples_models_are_not_shown(as_bob: Client, alice: User) -> None:
    add_model("alice/private:latest", owner_id=alice.pk)
    assert "alice/private" not in as_bob.get("/home").content.decode()


def test_own_models_are_shown(as_alice: Client, alice: User) -> None:
    add_model("alice/private:latest", owner_id=alice.pk)
    assert "alice/private:latest" in section(as_alice.get("/home"), "models")


def test_user_without_models_is_told_whom_to_ask(as_bob: Client) -> None:
    page = as_bob.get("/home")
    assert "Ask an administrator" in section(page, "models")
    assert '"model": "MODEL"' in snippet(page, "chat-curl")


def test_administrator_without_models_is_told_the_command(as_alice: Client) -> None:
    assert "ollamasite serve" in section(as_alice.get("/home"), "models")


def test_silent_engine_is_told_in_one_sentence_and_the_rest_still_shown(as_bob: Client) -> None:
    add_model(STARTER)
    page = as_bob.get("/home")
    assert page.status_code == 200
    assert page.content.decode().count("The inference service is not answering right now.") == 1
    assert STARTER in section(page, "models")


@pytest.mark.parametrize("count", [1, 40])
def test_number_of_queries_does_not_grow_with_the_models(
    as_bob: Client, count: int, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(count):
        add_model(f"model-{number}:latest")
    as_bob.get("/home")  # the session's first page writes when it was last used
    # session, user, teams, models, aliases, jobs, keys, and now and then the limits' rules
    with django_assert_max_num_queries(8):
        as_bob.get("/home")


def test_snippets_carry_the_address_that_the_browser_uses(as_bob: Client) -> None:
    add_model(STARTER)
    page = as_bob.get("/home", headers={"host": "models.example.internal:8080"})
    base_url = "http://models.example.internal:8080"
    assert f"{base_url}/api/chat" in snippet(page, "chat-curl")
    assert f'host="{base_url}"' in snippet(page, "chat-ollama")
    assert f'base_url="{base_url}/v1"' in snippet(page, "chat-openai")


def test_snippets_use_the_newest_model_that_can_talk(as_bob: Client) -> None:
    add_model(STARTER)
    add_model("nomic-embed-text:v1.5", capabilities=("embedding",))
    page = as_bob.get("/home")
    for name in ("chat-curl", "chat-ollama", "chat-openai"):
        assert STARTER in snippet(page, name)


def test_curl_snippet_is_one_command_with_a_json_body(as_bob: Client) -> None:
    add_model(STARTER)
    words = shlex.split(snippet(as_bob.get("/home"), "chat-curl").replace("\\\n", " "))
    assert words[:3] == ["curl", "http://testserver/api/chat", "-H"]
    assert words[3] == "Authorization: Bearer $OLLAMASITE_API_KEY"
    assert json.loads(words[words.index("-d") + 1])["model"] == STARTER


@pytest.mark.parametrize("name", ["chat-ollama", "chat-openai"])
def test_python_snippets_are_python(as_bob: Client, name: str) -> None:
    add_model(STARTER)
    compile(snippet(as_bob.get("/home"), name), name, "exec")


def test_way_to_a_key_is_a_link(as_bob: Client) -> None:
    assert 'href="/keys/new"' in as_bob.get("/home").content.decode()


def test_user_name_with_markup_is_escaped(browser: Client, db: None) -> None:
    # create_user refuses such a name; other ways into the table might not.
    browser.force_login(User.objects.create_user("<script>alert(1)</script>", password=PASSWORD))
    text = browser.get("/home").content.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_key_opens_the_page_too(bob: User) -> None:
    _, secret = create_key(bob, "test")
    answer = Client().get("/home", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 200


def test_page_has_a_language_a_title_and_a_way_past_the_header(as_bob: Client) -> None:
    text = as_bob.get("/home").content.decode()
    assert '<html lang="en">' in text
    assert "<title>Home – ollamasite</title>" in text
    assert '<a class="skip" href="#main">' in text
    assert '<main id="main"' in text


@pytest.mark.parametrize("path", ["/home", "/signin", "/no-such-page"])
def test_pages_need_nothing_that_the_policy_forbids(as_bob: Client, path: str) -> None:
    page = as_bob.get(path) if path != "/signin" else Client().get(path)
    text = page.content.decode()
    assert page["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text)


def test_page_is_not_kept_by_the_browser(as_bob: Client) -> None:
    assert "no-store" in as_bob.get("/home")["Cache-Control"]


def test_page_cannot_be_posted_to(as_bob: Client) -> None:
    token = re.search(r'value="([^"]{64})"', as_bob.get("/home").content.decode())
    assert token
    answer = as_bob.post("/home", {"csrfmiddlewaretoken": token[1]})
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")
    assert "cannot be opened this way" in answer.content.decode()


def test_unknown_page_is_answered_with_a_page(as_bob: Client) -> None:
    answer = as_bob.get("/no-such-page")
    assert answer.status_code == 404
    assert "Page not found" in answer.content.decode()
    assert "bob" in answer.content.decode()


@pytest.fixture
async def node(settings: Settings) -> AsyncIterator[FakeNode]:
    async with running_node() as fake:
        settings.ENGINE_SOCKET = fake.socket_path
        yield fake
        engine_fleet(django_settings.ENGINE_SOCKET).close()


async def home_of(username: str) -> Any:
    """Return the home page of a new user."""
    user = await sync_to_async(create_user)(username, PASSWORD)
    client = AsyncClient(headers={"accept": "text/html"})
    await client.aforce_login(user)
    return await client.get("/home")


async def load(node: FakeNode, digest: str, **changes: Any) -> None:
    node.loaded[digest] = structs.replace(LOADED, digest=digest, **changes)


@pytest.mark.django_db(transaction=True)
async def test_loaded_model_is_shown_with_memory_context_and_time_left(node: FakeNode) -> None:
    await load(node, await sync_to_async(add_model)(STARTER))
    words = section(await home_of("bob"), "loaded")
    assert f"{STARTER} Memory 312 MB CPU Context 4,096 tokens Leaves in 4 min 32 s" in words


@pytest.mark.django_db(transaction=True)
async def test_model_that_stays_is_said_to_stay(node: FakeNode) -> None:
    await load(node, await sync_to_async(add_model)(STARTER), expires_in_s=None)
    assert "Leaves never" in section(await home_of("bob"), "loaded")


@pytest.mark.django_db(transaction=True)
async def test_loaded_model_that_one_may_not_see_is_not_shown(node: FakeNode) -> None:
    await load(node, "f" * 64, name="alice/secret:latest")
    page = await home_of("bob")
    assert "alice/secret" not in page.content.decode()
    words = section(page, "loaded")
    assert "Nothing of yours is loaded; models that you cannot see take 312 MB." in words


@pytest.mark.django_db(transaction=True)
async def test_loaded_model_has_the_name_that_one_knows_it_by(node: FakeNode) -> None:
    digest = await sync_to_async(add_model)(STARTER)
    await load(node, digest, name="alice/secret-copy:latest")
    page = await home_of("bob")
    assert "alice/secret-copy" not in page.content.decode()
    assert STARTER in section(page, "loaded")


@pytest.mark.django_db(transaction=True)
async def test_nothing_loaded_tells_when_that_changes(node: FakeNode) -> None:
    words = section(await home_of("bob"), "loaded")
    assert "The first request to a model brings it into memory" in words
    assert "nobody has used it for 5 min" in words
