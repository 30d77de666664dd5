"""The page of one model and what is done from it, as the server writes it and does it."""

import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import gguf
import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, Client
from pytest_django import DjangoAssertNumQueries

from inference import roster
from inference.messages import Load
from models_app import principal_cache
from models_app.keys import create_key
from models_app.models import Alias, LanguageModel, ModelGrant, Tag, User, Visibility
from models_app.permissions import CredentialKind, TeamRole
from models_app.principals import principal_of_user
from models_app.teams import create_team, set_member
from registry import library, manifests
from registry.blobs import BlobStore
from registry.create import CreateModel, create_model
from tests.conftest import MakeModel
from tests.fakes.engine import FakeNode
from tests.gguf_files import write_tiny_model
from tests.inference.engine.far_node import House
from tests.model_layers import add_layer
from tests.pages.catalogue import STARTER, add_model
from tests.pages.test_home import load, node, snippet

__all__ = ["node"]


def words(page: Any, title: str) -> str:
    """Return the words of one section, single-spaced and without markup."""
    found = re.search(
        rf'<section[^>]*"{title}-title">(.*?)</section>', page.content.decode(), re.DOTALL
    )
    assert found, title
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[1])).split())


def post(client: Client, path: str, **fields: str) -> Any:
    """Send a form, with the token that the page of the list has given."""
    client.get("/models")
    token = client.cookies["csrftoken"].value
    return client.post(path, {"csrfmiddlewaretoken": token, **fields})


def told(client: Client, answer: Any) -> str:
    """Return what the next page says of what was done."""
    assert answer.status_code == 302, answer.content.decode()
    text = client.get(answer["Location"]).content.decode()
    found = re.search(r'<p class="message[^>]*>(.*?)</p>', text, re.DOTALL)
    assert found
    return html.unescape(found[1]).strip()


@pytest.fixture
def bobs(bob: User, make_model: MakeModel) -> str:
    """A model of bob's."""
    return make_model("bob/tuned:v1", bob)


@pytest.fixture
def vectors(db: None, store: BlobStore, tmp_path: Path) -> str:
    """A model of the library that embeds."""
    path = write_tiny_model(tmp_path / "e.gguf", pooling=gguf.PoolingType.MEAN)
    files = {"e.gguf": store.import_file(path).digest}
    return create_model(CreateModel(name="vectors", principal=None, files=files)).short


# ------------------------------------------------------------------ looking at it


def test_page_tells_all_about_a_model(as_bob: Client, make_model: MakeModel) -> None:
    name = make_model(
        "shown",
        template="{{ .Prompt }} and <b>",
        system="Be kind.",
        license=["MIT License\n\nCopyright nobody"],
        parameters={"temperature": 0.5, "stop": ["<|im_end|>", "</s>"]},
        messages=[("user", "hi")],
    )
    page = as_bob.get(f"/models/{name}")
    assert "Architecture llama License MIT" in words(page, "about")
    assert "{{ .Prompt }} and <b>" in words(page, "template")
    assert "Be kind." in words(page, "system")
    assert "Copyright nobody" in words(page, "license")
    assert "stop <|im_end|> stop </s> temperature 0.5" in words(page, "parameters")
    assert "user hi" in words(page, "messages")
    assert "model application/vnd.ollama.image.model" in words(page, "files")
    assert "general.architecture llama" in words(page, "metadata")
    assert "tokenizer.ggml.tokens a list" in words(page, "metadata")
    assert "latest" in words(page, "tags")


def test_model_without_a_tag_in_its_address_is_the_latest(as_bob: Client) -> None:
    add_model("plain:latest")
    assert (
        '<h1 class="model-name">plain:latest</h1>' in as_bob.get("/models/plain").content.decode()
    )


@pytest.mark.parametrize("path", ["/models/alice/private:latest", "/models/no/such:model"])
def test_what_one_may_not_see_is_not_there(as_bob: Client, alice: User, path: str) -> None:
    add_model("alice/private:latest", owner_id=alice.pk)
    for suffix in ("", "/text/template", "/copy", "/delete", "/access"):
        answer = as_bob.get(f"{path}{suffix}")
        assert answer.status_code == 404
        assert "Page not found" in answer.content.decode()
    for act in ("load", "unload", "pin", "copy", "delete", "access"):
        assert post(as_bob, f"{path}/{act}").status_code == 404


@pytest.mark.parametrize("name", ["..", "a b:c", "x/y/z/w:1", "%3Cscript%3E", "a:b:c"])
def test_what_is_no_name_is_refused(as_bob: Client, name: str) -> None:
    assert as_bob.get(f"/models/{name}").status_code in {400, 404}


def test_tags_of_the_repository_are_listed(
    as_bob: Client, bob: User, make_model: MakeModel
) -> None:
    for name in ("bob/tuned:v1", "bob/tuned:v2", "bob/tuned-other:v1"):
        make_model(name, bob)
    page = as_bob.get("/models/bob/tuned:v2")
    assert re.findall(r'href="/models/bob/([^"/]*)">\s*v', page.content.decode()) == ["tuned:v1"]
    assert "tuned-other" not in words(page, "tags")


def test_alias_leads_to_its_model(as_bob: Client) -> None:
    add_model(STARTER)
    Alias.objects.create(name="gpt-4o-mini:latest", target=STARTER)
    text = as_bob.get("/models/gpt-4o-mini").content.decode()
    assert f'<h1 class="model-name">{STARTER}</h1>' in text


@pytest.mark.parametrize("count", [1, 30])
def test_number_of_queries_does_not_grow(
    as_bob: Client,
    bob: User,
    make_model: MakeModel,
    count: int,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(count):
        make_model(f"bob/tuned:v{number}", bob)
    as_bob.get("/models/bob/tuned:v0")
    # session, user, teams; tag; models, aliases; place, verbs; access: model, right, grants
    with django_assert_num_queries(11):
        as_bob.get("/models/bob/tuned:v0")


def test_hostile_texts_stay_texts(as_bob: Client, make_model: MakeModel) -> None:
    evil = (
        "</pre></bdi><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\"' {{ 7|add:7 }}"
    )
    name = make_model("evil", system=evil, parameters={"stop": [evil]}, messages=[("user", evil)])
    add_layer(name, manifests.LICENSE, evil.encode())
    text = as_bob.get(f"/models/{name}").content.decode()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
    assert "{{ 7|add:7 }}" in text


def test_long_license_is_cut_and_can_be_had_whole(as_bob: Client, make_model: MakeModel) -> None:
    name = make_model("licensed")
    add_layer(name, manifests.LICENSE, b"All rights <b>reserved. " * 50_000)
    page = as_bob.get(f"/models/{name}")
    assert len(page.content) < 100_000
    assert "Show all" in words(page, "license")
    whole = as_bob.get(f"/models/{name}/text/license")
    assert len(whole.content) == 24 * 50_000
    assert whole["Content-Type"] == "text/plain; charset=utf-8"
    assert whole["Content-Disposition"] == 'attachment; filename="licensed-latest-license.txt"'


def test_metadata_can_be_had_with_its_lists(as_bob: Client, make_model: MakeModel) -> None:
    name = make_model("listed")
    found = json.loads(as_bob.get(f"/models/{name}/text/metadata").content)
    assert found["tokenizer.ggml.tokens"][:3] == ["<unk>", "<s>", "</s>"]


@pytest.mark.parametrize("part", ["system", "nonsense", "__class__"])
def test_text_that_is_not_there_is_not_found(
    as_bob: Client, make_model: MakeModel, part: str
) -> None:
    name = make_model("plain")
    assert as_bob.get(f"/models/{name}/text/{part}").status_code == 404


def test_snippets_have_the_address_and_the_model(as_bob: Client) -> None:
    add_model(STARTER)
    page = as_bob.get(f"/models/{STARTER}", headers={"host": "models.example.internal:8080"})
    base_url = "http://models.example.internal:8080"
    said = shlex.split(snippet(page, "code-curl").replace("\\\n", " "))
    assert said[1] == f"{base_url}/api/chat"
    assert json.loads(said[-1])["model"] == STARTER
    assert snippet(page, "code-cli").startswith(f"export OLLAMA_HOST={base_url}")
    for name in ("code-ollama", "code-openai"):
        compile(snippet(page, name), name, "exec")
    assert f'baseURL: "{base_url}/v1"' in snippet(page, "code-js")
    for name in ("code-cli", "code-ollama", "code-openai", "code-js"):
        assert STARTER in snippet(page, name)


def test_embedding_model_has_snippets_for_vectors(as_bob: Client, vectors: str) -> None:
    page = as_bob.get(f"/models/{vectors}")
    for name in ("code-curl", "code-ollama", "code-openai", "code-js"):
        assert "embed" in snippet(page, name)


def test_key_opens_the_page_and_no_form(bob: User, bobs: str) -> None:
    _, secret = create_key(bob, "test")
    headers = {"authorization": f"Bearer {secret}"}
    assert Client().get(f"/models/{bobs}", headers=headers).status_code == 200
    assert Client().get(f"/models/{bobs}/delete", headers=headers).status_code == 403


def test_only_managers_are_told_who_uses_it(
    as_bob: Client, alice: User, make_model: MakeModel
) -> None:
    name = make_model("alice/open", alice)
    LanguageModel.objects.update(visibility=Visibility.EVERYONE)
    text = as_bob.get(f"/models/{name}").content.decode()
    assert "Who can use it" not in text
    assert f"/models/{name}/delete" not in text
    assert f"/models/{name}/access" not in text
    assert f"/models/{name}/copy" in text


# ------------------------------------------------------------------ copying


def test_copy_is_made_under_ones_own_name(as_bob: Client, make_model: MakeModel) -> None:
    name = make_model("shared")
    answer = post(as_bob, f"/models/{name}/copy", destination="mine:v2")
    assert answer["Location"] == "/models/bob/mine:v2"
    assert told(as_bob, answer) == "shared:latest is now bob/mine:v2 as well."
    assert Tag.objects.filter(model__namespace="bob", model__name="mine", name="v2").exists()


@pytest.mark.parametrize(
    ("destination", "sentence"),
    [
        ("", "Enter the new name."),
        ("a b", "This is no name for a model."),
        ("alice/stolen", "You may not write to the namespace &#x27;alice&#x27;."),
        ("bob/tuned:v1", "own name: choose another."),
        ("x" * 700, "at most 600 characters"),
    ],
)
def test_copy_that_cannot_be_is_explained(
    as_bob: Client, alice: User, bobs: str, destination: str, sentence: str
) -> None:
    answer = post(as_bob, f"/models/{bobs}/copy", destination=destination)
    text = answer.content.decode()
    assert answer.status_code == 400
    assert sentence in text
    assert f'value="{destination}"' in text or not destination
    assert "autofocus" in text
    assert Tag.objects.count() == 1


def test_copy_over_another_asks_first(as_bob: Client, bob: User, make_model: MakeModel) -> None:
    make_model("bob/old", bob, system="old")
    name = make_model("bob/new", bob, system="new")
    before = Tag.objects.get(model__name="old").manifest_id
    asked = post(as_bob, f"/models/{name}/copy", destination="old")
    assert "There is a model bob/old:latest already" in asked.content.decode()
    assert Tag.objects.get(model__name="old").manifest_id == before
    done = post(as_bob, f"/models/{name}/copy", destination="old", replaces="on")
    assert done.status_code == 302
    assert Tag.objects.get(model__name="old").manifest_id != before


# ------------------------------------------------------------------ deleting


@pytest.mark.parametrize("typed", ["", "tuned:v1", "bob/tuned", "BOB/TUNED:V1"])
def test_nothing_is_deleted_unless_the_name_is_typed(as_bob: Client, bobs: str, typed: str) -> None:
    answer = post(as_bob, f"/models/{bobs}/delete", typed=typed)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert Tag.objects.count() == 1


def test_tag_is_deleted_and_the_others_stay(
    as_bob: Client, bob: User, bobs: str, make_model: MakeModel
) -> None:
    make_model("bob/tuned:v2", bob)
    answer = post(as_bob, f"/models/{bobs}/delete", what="tag", typed=bobs)
    assert answer["Location"] == "/models"
    assert told(as_bob, answer) == f"{bobs} is deleted."
    assert [tag.name for tag in Tag.objects.all()] == ["v2"]


def test_model_is_deleted_with_all_of_its_tags(
    as_bob: Client, bob: User, bobs: str, make_model: MakeModel
) -> None:
    make_model("bob/tuned:v2", bob)
    make_model("bob/other", bob)
    wrong = post(as_bob, f"/models/{bobs}/delete", what="model", typed=bobs)
    assert wrong.status_code == 400
    assert re.search(r'value="model"\s+checked', wrong.content.decode())
    post(as_bob, f"/models/{bobs}/delete", what="model", typed="bob/tuned")
    assert [tag.model.name for tag in Tag.objects.all()] == ["other"]


def test_looking_at_the_question_deletes_nothing(as_bob: Client, bobs: str) -> None:
    text = as_bob.get(f"/models/{bobs}/delete").content.decode()
    assert "Type its name" in text
    assert Tag.objects.count() == 1


def test_form_from_elsewhere_is_refused(as_bob: Client, bobs: str) -> None:
    assert as_bob.post(f"/models/{bobs}/delete", {"typed": bobs}).status_code == 403
    assert Tag.objects.count() == 1


# ------------------------------------------------------------------ whose hands it is in


@pytest.mark.parametrize(
    ("role", "copies", "manages"),
    [
        (TeamRole.VIEWER, 403, 403),
        (TeamRole.MEMBER, 200, 403),
        (TeamRole.MAINTAINER, 200, 200),
    ],
)
def test_team_members_may_what_their_place_lets_them(
    as_bob: Client, alice: User, make_model: MakeModel, role: TeamRole, copies: int, manages: int
) -> None:
    create_team("vision", owner="alice", by=None)
    set_member("vision", "bob", role, by=None)
    principal_cache.forget_all()
    owner = principal_of_user(alice, CredentialKind.SESSION)
    library.copy_model(owner, make_model("shared"), "vision/base")
    name = "vision/base:latest"
    page = as_bob.get(f"/models/{name}")
    assert as_bob.get(f"/models/{name}/copy").status_code == copies
    assert as_bob.get(f"/models/{name}/delete").status_code == manages
    assert as_bob.get(f"/models/{name}/access").status_code == manages
    assert (f"/models/{name}/load" in page.content.decode()) is (role is not TeamRole.VIEWER)


def test_model_is_shown_to_everybody_and_hidden_again(as_bob: Client, bobs: str) -> None:
    answer = post(as_bob, f"/models/{bobs}/access", act="see", visibility="everyone")
    assert told(as_bob, answer) == "It is changed, for everybody, from now on."
    assert LanguageModel.objects.get().visibility == "everyone"
    assert "everyone on this site" in words(as_bob.get(f"/models/{bobs}"), "who")
    post(as_bob, f"/models/{bobs}/access", act="see", visibility="private")
    assert LanguageModel.objects.get().visibility == "private"


def test_right_is_given_and_taken_back(as_bob: Client, alice: User, bobs: str) -> None:
    post(as_bob, f"/models/{bobs}/access", act="grant", to="Alice", verb="use")
    assert ModelGrant.objects.get().user == alice
    assert "alice" in words(as_bob.get(f"/models/{bobs}"), "who")
    text = as_bob.get(f"/models/{bobs}/access").content.decode()
    assert "Take it back: alice may use it" in text
    post(as_bob, f"/models/{bobs}/access", act="revoke", to="alice", verb="use")
    assert not ModelGrant.objects.exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"act": "grant", "to": "nobody", "verb": "use"}, "There is no user &#x27;nobody&#x27;"),
        ({"act": "grant", "to": "", "verb": "use"}, "Enter the name of a user or a team."),
        ({"act": "grant", "to": "alice", "verb": "own"}, "Select a valid choice"),
        ({"act": "see", "visibility": "team"}, "Select a valid choice"),
        ({"act": "nonsense"}, "Who can use it"),
        ({"act": "grant", "to": '"><script>alert(1)</script>', "verb": "use"}, "There is no user"),
    ],
)
def test_access_that_makes_no_sense_is_explained(
    as_bob: Client, alice: User, bobs: str, fields: dict[str, str], sentence: str
) -> None:
    answer = post(as_bob, f"/models/{bobs}/access", **fields)
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert "<script>alert" not in answer.content.decode()
    assert not ModelGrant.objects.exists()


# ------------------------------------------------------------------ in memory


async def signed_in(username: str, *, is_admin: bool = False) -> AsyncClient:
    """Return the browser of a new user."""
    user = await sync_to_async(User.objects.create_user)(username, is_superuser=is_admin)
    client = AsyncClient(headers={"accept": "text/html"})
    await client.aforce_login(user)
    return client


async def after(client: AsyncClient, path: str, **fields: str) -> tuple[Any, str]:
    """Send a form; return the page it leads to and what that says."""
    answer = await client.post(path, fields)
    assert answer.status_code == 302, answer.content.decode()
    page = await client.get(answer["Location"])
    found = re.search(r'<p class="message[^>]*>(.*?)</p>', page.content.decode(), re.DOTALL)
    return page, html.unescape(found[1]).strip() if found else ""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("stays", "keep_alive_s"), [("", None), ("3600", 3600.0), ("inf", float("inf")), ("-1", None)]
)
async def test_model_is_loaded_for_as_long_as_is_asked(
    node: FakeNode, make_model: MakeModel, stays: str, keep_alive_s: float | None
) -> None:
    name = await sync_to_async(make_model)("shared")
    client = await signed_in("bob")
    page, said = await after(client, f"/models/{name}/load", stays=stays)
    assert said == "shared:latest is in memory."
    assert node.got(Load)[0].keep_alive_s == keep_alive_s
    assert "In memory" in words(page, "memory")
    page, said = await after(client, f"/models/{name}/unload")
    assert said == "shared:latest leaves memory when its answers have ended."
    assert "Not in memory" in words(page, "memory")


@pytest.mark.django_db(transaction=True)
async def test_embedding_model_is_loaded_too(node: FakeNode, vectors: str) -> None:
    _, said = await after(await signed_in("bob"), f"/models/{vectors}/load")
    assert said == "vectors:latest is in memory."


@pytest.mark.django_db(transaction=True)
async def test_operators_pin_and_unpin(node: FakeNode, make_model: MakeModel) -> None:
    name = await sync_to_async(make_model)("shared")
    client = await signed_in("alice", is_admin=True)
    page, said = await after(client, f"/models/{name}/pin", pinned="1")
    assert said == "shared stays in memory."
    assert node.got(Load)[-1].model.is_pinned
    assert "Unpin" in words(page, "memory")
    page, said = await after(client, f"/models/{name}/pin", pinned="0")
    assert said == "shared leaves memory like others."
    assert not node.got(Load)[-1].model.is_pinned


@pytest.mark.django_db(transaction=True)
async def test_others_do_not_pin(node: FakeNode, make_model: MakeModel) -> None:
    name = await sync_to_async(make_model)("shared")
    client = await signed_in("bob")
    assert "Pin" not in words(await client.get(f"/models/{name}"), "memory")
    assert (await client.post(f"/models/{name}/pin", {"pinned": "1"})).status_code == 403


@pytest.mark.django_db(transaction=True)
async def test_loaded_model_tells_memory_and_time_left(node: FakeNode) -> None:
    digest = await sync_to_async(add_model)(STARTER)
    await load(node, digest)
    page = await (await signed_in("bob")).get(f"/models/{STARTER}")
    said = words(page, "memory")
    assert "Takes 312 MB CPU Context 4,096 tokens Leaves in 4 min 32 s" in said


@pytest.mark.django_db(transaction=True)
async def test_loaded_model_tells_on_which_of_several_nodes(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await load(node, await sync_to_async(add_model)(STARTER))
    client = await signed_in("bob")
    assert "On fake" not in words(await client.get(f"/models/{STARTER}"), "memory")
    house = House(tmp_path)
    monkeypatch.setattr(roster._roster, "nodes", [house.enrolled("far")])
    assert "On fake Takes" in words(await client.get(f"/models/{STARTER}"), "memory")
    await house.close()


def test_silent_engine_is_said_and_a_load_that_failed_is_explained(
    as_bob: Client, make_model: MakeModel
) -> None:
    name = make_model("shared")
    assert "does not answer" in words(as_bob.get(f"/models/{name}"), "memory")
    answer = post(as_bob, f"/models/{name}/load")
    assert "message-error" in as_bob.get(answer["Location"]).content.decode()
