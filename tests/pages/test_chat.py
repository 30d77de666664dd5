"""The chat page and its parts, as the server writes them."""

import html
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.test import AsyncClient, Client
from msgspec import structs
from pytest_django import DjangoAssertNumQueries, Settings

from inference.chats.shown import to_stored
from inference.fleet import engine_fleet
from models_app import chat_messages, chats
from models_app.accounts import create_user
from models_app.chat_messages import Added, AnswerSoFar, NewImage, NewMessages
from models_app.chats import ChatSettings
from models_app.keys import create_key
from models_app.models import Chat, ChatFolder, ChatImage, User
from models_app.permissions import CredentialKind, Principal
from models_app.principals import principal_of_user
from tests.fakes.engine import FakeNode, running_node
from tests.inference.chats.test_markdown import markup
from tests.pages.catalogue import PASSWORD, STARTER, add_model
from tests.pages.test_home import LOADED

HOSTILE = "<script>alert(1)</script>"
FETCHED = {"accept": "*/*"}


def owner_of(user: User) -> Principal:
    return principal_of_user(user, CredentialKind.SESSION)


def ask(user: User, text: str = "Hi", answer: str = "Yes.", **fields: Any) -> Added:
    """Return a question that was asked and answered."""
    calls = fields.pop("answer_calls", "[]")
    shown = fields.pop("shown", "")
    fields.setdefault("role", "user")
    added = chat_messages.add_messages(
        owner_of(user), NewMessages(text=text, process="here", **fields)
    )
    so_far = AnswerSoFar(
        message_id=added.answer_id,
        text=answer,
        thinking="Hm.",
        calls=calls,
        version=1,
        state="done",
        shown=shown,
    )
    chat_messages.save_answers("here", [so_far])
    return added


def text_of(page: Any) -> str:
    return str(page.content.decode())


def token_of(client: Client) -> dict[str, str]:
    client.get("/chat")
    return {"x-csrftoken": client.cookies["csrftoken"].value}


@pytest.fixture
def post(as_bob: Client) -> Callable[..., Any]:
    """Return what posts a form as the page's script does."""
    headers = {**token_of(as_bob), **FETCHED}

    def send(path: str, **data: str) -> Any:
        return as_bob.post(path, data, headers=headers)

    return send


def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None) -> None:
    assert browser.get("/chat")["Location"] == "/signin?next=%2Fchat"


def test_key_does_not_open_chats(bob: User) -> None:
    _, secret = create_key(bob, "test")
    for path in ("/chat", "/chat/list", f"/chat/{'0' * 32}"):
        answer = Client().get(path, headers={"authorization": f"Bearer {secret}"})
        assert answer.status_code == 403, path


def test_empty_page_says_what_to_do(as_bob: Client) -> None:
    page = as_bob.get("/chat")

    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]


def test_models_that_can_talk_are_offered(as_bob: Client) -> None:
    add_model(STARTER)
    add_model("nomic-embed-text:v1.5", capabilities=("embedding",))
    context = as_bob.get("/chat").context

    assert [model.name for model in context["models"]] == [STARTER]
    assert context["selected_model"] == STARTER
    assert context["models"][0].context == "8K"


@pytest.mark.parametrize(
    ("asked", "selected"), [("b:latest", "b:latest"), ("nope", "c:latest"), ("", "c:latest")]
)
def test_model_can_be_chosen_in_the_address(as_bob: Client, asked: str, selected: str) -> None:
    for name in ("a", "b", "c"):
        add_model(f"{name}:latest")
    context = as_bob.get("/chat", {"model": asked, "q": "Why?"}).context

    assert (context["selected_model"], context["draft"]) == (selected, "Why?")


def test_chat_is_shown_with_its_branch_and_settings(as_bob: Client, bob: User) -> None:
    settings = ChatSettings(model_name="m", system="Be brief.", options='{"seed":1}', think="true")
    one = ask(bob, "One", settings=settings)
    ask(bob, "Two", chat_id=one.chat_id, parent=one.answer_id, settings=settings)
    page = as_bob.get(f"/chat/{one.chat_id}")
    context = page.context

    assert [(m.role, m.text) for m in context["messages"]] == [
        ("user", "One"),
        ("assistant", "Yes."),
        ("user", "Two"),
        ("assistant", "Yes."),
    ]
    assert context["messages"][1].html_blocks == ["<p>Yes.</p>"]
    assert context["messages"][1].thinking_html == ["<p>Hm.</p>"]
    chat = context["chat"]
    assert (chat.system, chat.options, chat.think) == ("Be brief.", {"seed": 1}, True)
    assert text_of(page).count("<article") == 4


def test_results_are_shown_with_their_calls(as_bob: Client, bob: User) -> None:
    calls = json.dumps(
        [{"id": "c", "name": "weather", "arguments": {"place": "Köln"}}] * 2, ensure_ascii=False
    )
    one = ask(bob, answer_calls=calls)
    [_, asking] = as_bob.get(f"/chat/{one.chat_id}").context["messages"]
    assert asking.is_waiting_for_results
    results = json.dumps([{"name": "weather", "content": "sunny"}])
    ask(bob, role="tool", calls=results, chat_id=one.chat_id, parent=one.answer_id)
    shown = as_bob.get(f"/chat/{one.chat_id}").context["messages"]

    assert [m.role for m in shown] == ["user", "assistant", "assistant"]
    assert [(c.name, c.result) for c in shown[1].calls] == [("weather", "sunny"), ("weather", None)]
    assert '"place": "Köln"' in shown[1].calls[0].arguments
    assert not shown[1].is_waiting_for_results


def test_siblings_are_told(as_bob: Client, bob: User) -> None:
    one = ask(bob, "One")
    two = ask(bob, "Two", chat_id=one.chat_id)
    three = ask(bob, "Three", chat_id=one.chat_id)
    as_bob.get("/chat")
    chat_messages.set_head(owner_of(bob), one.chat_id, two.question_id)
    first = as_bob.get(f"/chat/{one.chat_id}").context["messages"][0]

    assert (first.siblings, first.sibling_index) == (3, 2)
    assert (first.previous_sibling, first.next_sibling) == (one.question_id, three.question_id)


@pytest.mark.parametrize("path", ["", "/messages", "/export", "/export?format=json"])
def test_chat_of_somebody_else_is_answered_like_none(
    as_bob: Client, alice: User, path: str
) -> None:
    theirs = as_bob.get(f"/chat/{ask(alice).chat_id}{path}")
    nothing = as_bob.get(f"/chat/{'0' * 32}{path}")

    assert (theirs.status_code, nothing.status_code) == (404, 404)
    csrf = re.compile(r'"X-CSRFToken": "\w*"|value="\w{64}"|req_\w+')
    assert csrf.sub("", text_of(theirs)) == csrf.sub("", text_of(nothing))


def test_admin_sees_nobodys_chats(as_alice: Client, bob: User) -> None:
    added = ask(bob, "My secret")

    assert as_alice.get(f"/chat/{added.chat_id}").status_code == 404
    assert "My secret" not in text_of(as_alice.get("/chat/list", {"q": "secret"}))
    assert "chat" not in text_of(as_alice.get("/admin/")).partition("<main")[2].lower()


def test_hostile_texts_are_text(as_bob: Client, bob: User) -> None:
    image = NewImage(name=HOSTILE + "<img src=x onerror=a>", media_type="image/png", data=b"x")
    settings = ChatSettings(model_name=HOSTILE, system=HOSTILE, tools=json.dumps([HOSTILE]))
    folder = chats.create_folder(owner_of(bob), HOSTILE).folder_id
    calls = json.dumps([{"id": "", "name": HOSTILE, "arguments": {HOSTILE: HOSTILE}}])
    added = ask(
        bob,
        HOSTILE,
        f"{HOSTILE}\n\n[x](javascript:alert(1))",
        images=(image,),
        settings=settings,
        answer_calls=calls,
    )
    ask(bob, folder_id=folder)
    pages = [
        as_bob.get(f"/chat/{added.chat_id}", {"q": HOSTILE, "model": HOSTILE}),
        as_bob.get("/chat/list", {"q": HOSTILE}),
        as_bob.get(f"/chat/{added.chat_id}/messages"),
    ]

    for page in pages:
        found = markup([text_of(page)])
        assert not [tag for tag, names in found if any(name.startswith("on") for name in names)]
        scripts = [names for tag, names in found if tag == "script" and not names.get("src")]
        assert {names.get("type") for names in scripts} <= {"application/json"}
        assert not [names for _, names in found if "javascript:" in str(names.get("href"))]
        assert html.escape(HOSTILE) in text_of(page)


def test_html_that_is_stored_is_not_computed_again(as_bob: Client, bob: User) -> None:
    stored = to_stored("Other.", "")
    added = ask(bob, shown=stored)
    assert as_bob.get(f"/chat/{added.chat_id}").context["messages"][1].html_blocks == [
        "<p>Other.</p>"
    ]
    old = stored.replace('"v":', '"v":9')
    added = ask(bob, shown=old)
    assert as_bob.get(f"/chat/{added.chat_id}").context["messages"][1].html_blocks == [
        "<p>Yes.</p>"
    ]


@pytest.mark.parametrize("count", [1, 40])
def test_number_of_queries_does_not_grow(
    as_bob: Client, bob: User, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    added = ask(bob)
    for number in range(count):
        add_model(f"model-{number}:latest")
        ask(bob)
        chats.create_folder(owner_of(bob), f"folder {number}")
        added = ask(bob, chat_id=added.chat_id, parent=added.answer_id)
    as_bob.get("/chat")  # the session's first page writes when it was last used
    with django_assert_num_queries(QUERIES):
        as_bob.get(f"/chat/{added.chat_id}")


# session, user, teams; chat, tree, messages, images; models, aliases; pinned, list, running,
# folders; and the line about jobs that every page has
QUERIES = 13


def test_list_is_grouped_and_goes_on(as_bob: Client, bob: User) -> None:
    for number in range(60):
        ask(bob, f"Chat {number}")
    Chat.objects.filter(title="Chat 0").update(is_pinned=True)
    first = as_bob.get("/chat/list")
    groups = first.context["groups"]
    rest = as_bob.get("/chat/list", {"before": first.context["next_before"]})

    assert [(group.label, len(group.chats)) for group in groups] == [("Pinned", 1), ("Today", 50)]
    assert [len(group.chats) for group in rest.context["groups"]] == [9]
    assert (rest.context["next_before"], rest.context["is_first"]) == ("", False)


def test_list_is_searched(as_bob: Client, bob: User) -> None:
    ask(bob, "Where is Paris?", "In France.")
    ask(bob, "Else")
    context = as_bob.get("/chat/list", {"q": "france"}).context

    assert [[chat.title for chat in group.chats] for group in context["groups"]] == [
        ["Where is Paris?"]
    ]


def test_chat_is_renamed_moved_pinned_and_deleted(post: Callable[..., Any], bob: User) -> None:
    added = ask(bob)
    folder = chats.create_folder(owner_of(bob), "Work")
    path = f"/chat/{added.chat_id}"
    done = [
        post(f"{path}/rename", title=" Better "),
        post(f"{path}/move", folder=folder.folder_id),
        post(f"{path}/pin", pinned="1"),
    ]
    chat = chats.find_chat(owner_of(bob), added.chat_id)

    assert [answer.status_code for answer in done] == [204] * 3
    assert (chat.title, chat.folder_id, chat.is_pinned) == ("Better", folder.folder_id, True)
    assert post(f"{path}/move", folder="").status_code == 204
    assert post(f"{path}/delete").status_code == 204
    assert post(f"{path}/delete").status_code == 404
    assert Chat.objects.count() == 0


def test_folders_are_made_renamed_and_deleted(post: Callable[..., Any], bob: User) -> None:
    assert post("/chat/folders", name="Work").status_code == 204
    folder = ChatFolder.objects.get()
    assert post(f"/chat/folders/{folder.folder_id}/rename", name="Play").status_code == 204
    folder.refresh_from_db()
    assert folder.name == "Play"
    assert post(f"/chat/folders/{folder.folder_id}/delete").status_code == 204
    assert ChatFolder.objects.count() == 0


def test_settings_are_kept(post: Callable[..., Any], bob: User) -> None:
    added = ask(bob)
    path = f"/chat/{added.chat_id}/system"
    kept = post(path, model="m", system="Be.", options='{"seed":1}', tools="[]", think='"low"')
    settings = chats.find_chat(owner_of(bob), added.chat_id).settings

    assert kept.status_code == 204
    assert (settings.system, settings.options, settings.think) == ("Be.", '{"seed":1}', '"low"')


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("rename", {"title": ""}),
        ("rename", {"title": "x" * 201}),
        ("system", {"options": "{"}),
        ("system", {"options": "[]"}),
        ("system", {"tools": "{}"}),
        ("system", {"system": "x" * (1024 * 1024 + 1)}),
        ("system", {"options": json.dumps({"a": "x" * 70_000})}),
    ],
)
def test_nonsense_is_refused_in_words(
    post: Callable[..., Any], bob: User, path: str, data: dict[str, str]
) -> None:
    answer = post(f"/chat/{ask(bob).chat_id}/{path}", **data)

    assert answer.status_code == 400
    assert json.loads(answer.content)["error"]


def test_branch_is_switched(post: Callable[..., Any], as_bob: Client, bob: User) -> None:
    one = ask(bob, "One")
    ask(bob, "Two", chat_id=one.chat_id)
    assert post(f"/chat/{one.chat_id}/head", message=one.question_id).status_code == 204
    shown = as_bob.get(f"/chat/{one.chat_id}/messages").context["messages"]

    assert [message.text for message in shown] == ["One", "Yes."]
    assert post(f"/chat/{one.chat_id}/head", message="0" * 32).status_code == 404


def test_form_without_script_comes_back(as_bob: Client, bob: User) -> None:
    added = ask(bob)
    headers = token_of(as_bob)
    path = f"/chat/{added.chat_id}"
    renamed = as_bob.post(f"{path}/rename", {"title": "x"}, headers=headers)
    elsewhere = as_bob.post(
        f"{path}/pin", {"next": "//evil.example/", "pinned": "1"}, headers=headers
    )
    back = as_bob.post(f"{path}/pin", {"next": "/home"}, headers=headers)
    deleted = as_bob.post(f"{path}/delete", headers=headers)

    answers = (renamed, elsewhere, back, deleted)
    assert [answer["Location"] for answer in answers] == [path, path, "/home", "/chat"]


def test_nothing_is_changed_by_looking(as_bob: Client, bob: User) -> None:
    path = f"/chat/{ask(bob).chat_id}"
    for act in ("rename", "move", "pin", "delete", "head", "system"):
        assert as_bob.get(f"{path}/{act}").status_code == 405
    assert as_bob.post(f"{path}/delete").status_code == 403  # without the form's token
    assert Chat.objects.count() == 1


def test_image_is_its_owners(as_bob: Client, bob: User, alice: User) -> None:
    image = NewImage(name="a", media_type="image/png", data=b"\x89PNG")
    ask(bob, images=(image,))
    ask(alice, images=(image,))
    own, theirs = ChatImage.objects.order_by("pk").values_list("image_id", flat=True)
    shown = as_bob.get(f"/chat/images/{own}")

    assert (shown.content, shown["Content-Type"]) == (b"\x89PNG", "image/png")
    assert "sandbox" in shown["Content-Security-Policy"]
    assert as_bob.get(f"/chat/images/{theirs}").status_code == 404


@pytest.fixture
async def node(settings: Settings) -> AsyncIterator[FakeNode]:
    async with running_node() as fake:
        settings.ENGINE_SOCKET = fake.socket_path
        yield fake
        engine_fleet(django_settings.ENGINE_SOCKET).close()


async def signed_in(name: str) -> tuple[AsyncClient, User]:
    user = await sync_to_async(create_user)(name, PASSWORD)
    client = AsyncClient(headers={"accept": "text/html"})
    await client.aforce_login(user)
    return client, user


@pytest.mark.django_db(transaction=True)
async def test_loaded_models_come_first(node: FakeNode) -> None:
    digest = await sync_to_async(add_model)(STARTER)
    await sync_to_async(add_model)("newer:latest")
    node.loaded[digest] = structs.replace(LOADED, digest=digest)
    client, _ = await signed_in("bob")
    context = (await client.get("/chat")).context

    assert [(m.name, m.is_loaded) for m in context["models"]] == [
        (STARTER, True),
        ("newer:latest", False),
    ]
    assert context["is_engine_available"]


async def exported(path: str, name: str = "bob", **asked: Any) -> tuple[Any, str]:
    client, user = await signed_in(name)
    added = await sync_to_async(ask)(user, **asked)
    answer: Any = await client.get(f"/chat/{added.chat_id}/export{path}")
    return answer, b"".join([piece async for piece in answer]).decode()


@pytest.mark.django_db(transaction=True)
async def test_chat_is_exported_as_markdown() -> None:
    answer, text = await exported("", text="What is ./this?", answer="A `thing`.")

    assert answer["Content-Disposition"] == 'attachment; filename="What-is-.-this.md"'
    assert answer["Content-Type"] == "text/markdown; charset=utf-8"
    assert text == (
        "# What is ./this?\n\n## You\n\nWhat is ./this?\n\n## Assistant\n\n> Hm.\n\nA `thing`.\n"
    )


@pytest.mark.django_db(transaction=True)
async def test_chat_is_exported_as_json_with_its_images() -> None:
    image = NewImage(name="a.png", media_type="image/png", data=b"\x89PNG")
    answer, text = await exported("?format=json", text="日本", images=(image,))
    chat = json.loads(text)

    assert answer["Content-Disposition"] == 'attachment; filename="chat.json"'
    assert [m["role"] for m in chat["messages"]] == ["user", "assistant"]
    assert chat["messages"][0]["images"] == [{"name": "a.png", "data": "iVBORw=="}]
    assert (chat["messages"][1]["thinking"], chat["messages"][1]["parent"]) == (
        "Hm.",
        chat["messages"][0]["id"],
    )
