"""`ws/chats`: questions become rows, answers outlive the page and are followed from any version."""

import asyncio
import base64
import contextlib
import gc
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from inference.chats import answers, asking, following
from inference.chats.markdown import render_blocks
from inference.messages import Cancel, ChatPrompt, FailureCode, Generate, Priority, Token, ToolCall
from models_app import chat_messages, chats
from models_app.models import Chat, ChatImage, ChatMessage, User
from models_app.permissions import CredentialKind, Principal
from models_app.principals import principal_of_user
from tests.conftest import MakeModel
from tests.fakes.engine import FakeNode, Script
from tests.fakes.websocket import Socket
from tests.inference.conftest import CHATML

ORIGIN = (b"origin", b"http://localhost:11434")
# A PNG of one pixel.
PIXEL = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
    )
).decode()
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}

Open = Callable[..., Awaitable[Socket]]


@pytest.fixture
async def open_as(transactional_db: None) -> AsyncIterator[Open]:
    """Return what opens the page's socket for somebody who has signed in."""
    sockets: list[Socket] = []

    async def make(user: User) -> Socket:
        client = Client()
        await sync_to_async(client.force_login)(user)
        session = client.cookies["ollamasite_session"].value
        cookie = (b"cookie", f"ollamasite_session={session}".encode())
        socket = Socket(cookie, ORIGIN, path="/ws/chats")
        sockets.append(socket)
        is_accepted, _ = await socket.wire.connect(timeout=60)
        assert is_accepted
        return socket

    yield make
    for socket in sockets:
        with contextlib.suppress(asyncio.CancelledError):
            await socket.wire.disconnect(timeout=60)
    for answer in list(answers.keeper()._answers.values()):
        answer.stop()
    await answers.finish()


@pytest.fixture
async def page(open_as: Open, alice: User) -> Socket:
    return await open_as(alice)


async def ask(page: Socket, model: str, text: str = "Hello", **more: Any) -> Any:
    """Ask, and return what the page is told first."""
    await page.send(type="ask", id="q", model=model, text=text, **more)
    return await page.receive()


async def told_until_end(page: Socket) -> list[Any]:
    return await page.receive_until("ended", "error")


async def told_a_word(page: Socket) -> Any:
    """Return the first frame with some text: one may come before it, when the answer has begun."""
    while not (frame := (await page.receive_until("growth"))[-1])["blocks"]:
        pass
    return frame


async def answered(page: Socket, model: str, text: str = "Hello", **more: Any) -> tuple[Any, Any]:
    """Ask and wait for the end; return how it began and ended."""
    started = await ask(page, model, text, **more)
    assert started["type"] == "started", started
    return started, (await told_until_end(page))[-1]


def rows() -> list[ChatMessage]:
    return list(ChatMessage.objects.order_by("pk"))


async def row_of(message_id: str) -> ChatMessage:
    return await ChatMessage.objects.aget(message_id=message_id)


async def ended_row(message_id: str) -> ChatMessage:
    """Wait until an answer's row has ended."""
    async with asyncio.timeout(60):
        while (row := await row_of(message_id)).state == "running":
            await asyncio.sleep(0.02)
    return row


def grown(frames: list[Any]) -> list[str]:
    """Return the blocks that a page has behind these frames."""
    blocks: list[str] = []
    for frame in frames:
        if frame["type"] == "growth":
            blocks = blocks[: frame["from"]] + frame["blocks"]
    return blocks


def html_of(ended: Any) -> list[str]:
    """Return the blocks of an answer's article."""
    article: str = ended["html"].partition('<div class="blocks')[2]
    return re.findall(r'<div class="block">(.*?)</div>', article, re.DOTALL)


def messages_of(request: Generate) -> list[tuple[str, str]]:
    assert isinstance(request.prompt, ChatPrompt)
    return [(message.role, message.content) for message in request.prompt.messages]


async def test_question_is_answered_and_kept(node: FakeNode, model: str, page: Socket) -> None:
    started, ended = await answered(page, model, "Hello you\nand more")

    assert started["title"] == "Hello you"
    assert (ended["type"], ended["state"], ended["error"]) == ("ended", "done", None)
    question, answer = await sync_to_async(rows)()
    assert (question.role, question.text, question.parent) == ("user", "Hello you\nand more", "")
    assert (answer.role, answer.text, answer.parent) == (
        "assistant",
        "Hello.",
        question.message_id,
    )
    assert (started["question"], started["message"]) == (question.message_id, answer.message_id)
    assert "<p>Hello.</p>" in ended["html"]


async def test_somebody_waits_for_the_answer(node: FakeNode, model: str, page: Socket) -> None:
    await ask(page, model, options={"num_predict": 5}, system="Be brief.")
    request = await node.wait_for(Generate)

    assert (request.user, request.priority) == ("alice", Priority.INTERACTIVE)
    assert request.sampling.num_predict == 5
    assert messages_of(request) == [("system", "Be brief."), ("user", "Hello")]


async def test_blocks_that_have_not_changed_are_not_sent_again(
    node: FakeNode, model: str, page: Socket
) -> None:
    text = "One.\n\nTwo.\n\n```python\nx = 1\n```\n\nThree *is* long."
    pieces = tuple(text[at : at + 3] for at in range(0, len(text), 3))
    node.scripts.append(Script(pieces=pieces, pause_s=0.03))
    await ask(page, model)
    frames = await told_until_end(page)
    growth = [frame for frame in frames if frame["type"] == "growth"]

    # A busy machine puts several pieces into one frame, but not what was to come a second later.
    assert len(growth) > 1
    assert grown(frames)[:2] == ["<p>One.</p>", "<p>Two.</p>"]
    # What the page had before a frame is not in it, but for the last block, which may grow.
    for before, frame in itertools.pairwise(growth):
        had = len(render_blocks("".join(pieces[: before["version"]])))
        assert had - 1 <= frame["from"]
    assert [frame["version"] for frame in growth] == sorted({f["version"] for f in growth})
    assert (await row_of(frames[-1]["message"])).text == text


async def test_answer_goes_on_when_the_page_is_closed(
    node: FakeNode, model: str, page: Socket
) -> None:
    node.scripts.append(Script(pieces=("word ",) * 40, pause_s=0.02))
    started = await ask(page, model)
    await page.wire.disconnect(timeout=60)
    row = await ended_row(started["message"])

    assert (row.state, row.text) == ("done", "word " * 40)
    assert node.got(Cancel) == []


async def test_page_that_is_closed_while_it_asks_is_answered(
    node: FakeNode, model: str, page: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = asking._begin
    has_come, may_go_on = asyncio.Event(), asyncio.Event()

    async def begin_late(*args: Any) -> Any:
        begun = await real(*args)
        has_come.set()
        await may_go_on.wait()
        return begun

    monkeypatch.setattr(asking, "_begin", begin_late)
    node.scripts.append(Script(pieces=("word",)))
    await page.send(type="ask", id="q", model=model, text="Hello")
    await has_come.wait()
    await page.wire.disconnect(timeout=60)
    may_go_on.set()
    row = await ended_row((await ChatMessage.objects.aget(role="assistant")).message_id)

    assert (row.state, row.text) == ("done", "word")


async def test_page_that_is_cut_while_it_asks_leaves_no_failed_task(
    node: FakeNode, model: str, page: Socket, caplog: pytest.LogCaptureFixture
) -> None:
    node.scripts.append(Script(pieces=("word",)))
    page.is_cut = True
    await page.send(type="ask", id="q", model=model, text="Hello")
    async with asyncio.timeout(20):
        while not await ChatMessage.objects.filter(state="done").aexists():
            await asyncio.sleep(0.02)
    await page.wire.disconnect(timeout=60)
    gc.collect()  # what asyncio has to say of a task it says when the task is collected

    assert "never retrieved" not in caplog.text


async def test_question_that_cannot_be_stored_whole_leaves_nothing(
    node: FakeNode, model: str, page: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_away(*args: Any) -> Any:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(chat_messages, "find_message", go_away)
    node.default = Script(pieces=("word",), is_held=True)
    refused = await ask(page, model)
    await node.wait_for(Cancel)

    assert refused["type"] == "error"
    assert "the database does not answer" in refused["error"]
    assert not await ChatMessage.objects.aexists()
    assert not await Chat.objects.aexists()


async def test_temporary_answers_asked_at_once_are_bounded(
    node: FakeNode, model: str, page: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = asking._begin

    async def begin_late(*args: Any) -> Any:
        await asyncio.sleep(0.3)
        return await real(*args)

    monkeypatch.setattr(asking, "_begin", begin_late)
    node.default = Script(pieces=("word",), is_held=True)
    most = chat_messages.MAX_RUNNING
    for number in range(most + 2):
        await page.send(type="ask", id=str(number), model=model, text="x", temporary=True)
    kinds: list[str] = []
    while len(kinds) < most + 2:
        frame = await page.receive()
        kinds += [frame["type"]] if frame["type"] in {"started", "error"} else []

    assert sorted(kinds) == ["error"] * 2 + ["started"] * most


async def test_resume_from_any_version_gives_exactly_the_whole(
    node: FakeNode, model: str, page: Socket, open_as: Open, alice: User
) -> None:
    text = "A paragraph.\n\n- one\n- two\n\nAnother **bold** one.\n\nThe end."
    pieces = tuple(re.findall(r"\S+\s*", text))
    node.scripts.append(Script(pieces=pieces, pause_s=0.05))
    started = await ask(page, model)
    message, version, seen = started["message"], 0, []
    while version < 4:
        seen.append(await page.receive())
        version = seen[-1].get("version", 0)
    await page.wire.disconnect(timeout=60)
    other = await open_as(alice)
    await other.send(type="follow", id="f", message=message, version=version)
    frames = await told_until_end(other)

    row = await row_of(message)
    assert (row.text, frames[-1]["state"]) == (text, "done")
    said = html_of(frames[-1])
    assert said == render_blocks(text)
    resumed = grown([*seen, *frames])
    assert len(resumed) > 1
    assert resumed[:-1] == said[: len(resumed) - 1]  # the last may not have been at its end


async def test_follow_of_an_ended_answer_tells_its_end(
    node: FakeNode, model: str, page: Socket
) -> None:
    started, ended = await answered(page, model)
    await page.send(type="follow", id="f", message=started["message"], version=1)

    assert await page.receive() == ended


async def test_two_pages_follow_one_answer(
    node: FakeNode, model: str, page: Socket, open_as: Open, alice: User
) -> None:
    node.scripts.append(Script(pieces=("a ", "b ", "c."), pause_s=0.2))
    started = await ask(page, model)
    other = await open_as(alice)
    await other.send(type="follow", id="f", message=started["message"], version=0)
    one, two = await told_until_end(page), await told_until_end(other)

    assert one[-1] == two[-1]
    assert [frame["type"] for frame in one].count("ended") == 1


async def test_stop_ends_an_answer_with_what_it_has(
    node: FakeNode, model: str, page: Socket
) -> None:
    node.scripts.append(Script(pieces=("word ",), is_held=True))
    started = await ask(page, model)
    await told_a_word(page)
    await page.send(type="stop", message=started["message"])
    frames = await told_until_end(page)

    assert frames[-1]["state"] == "stopped"
    row = await row_of(started["message"])
    assert (row.state, row.text) == ("stopped", "word ")
    await node.wait_for(Cancel)


async def test_stop_before_the_first_word(node: FakeNode, model: str, page: Socket) -> None:
    node.scripts.append(Script(pieces=(), is_held=True))
    started = await ask(page, model)
    await page.send(type="stop", message=started["message"])

    assert (await told_until_end(page))[-1]["state"] == "stopped"


async def test_stop_reaches_an_answer_of_another_process(
    node: FakeNode, model: str, page: Socket, alice: User
) -> None:
    """The other process says it in the row; this one looks there."""
    node.scripts.append(Script(pieces=("word ",), is_held=True))
    started = await ask(page, model)
    principal = await principal_for_page(alice)
    await sync_to_async(chat_messages.ask_to_stop)(principal, started["message"])

    assert (await told_until_end(page))[-1]["state"] == "stopped"


async def principal_for_page(user: User) -> Principal:
    return await sync_to_async(principal_of_user)(user, CredentialKind.SESSION)


async def elsewhere(user: User, **fields: Any) -> str:
    """Return an answer that another process writes."""
    settings = chats.ChatSettings(model_name="m")
    new = chat_messages.NewMessages(role="user", text="x", settings=settings, process="other")
    add = sync_to_async(chat_messages.add_messages)
    added = await add(await principal_for_page(user), new)
    await ChatMessage.objects.filter(message_id=added.answer_id).aupdate(**fields)
    return added.answer_id


async def test_answer_of_another_process_is_followed_by_its_row(page: Socket, alice: User) -> None:
    message = await elsewhere(alice, text="One.\n\nTwo", version=4)
    await page.send(type="follow", id="f", message=message, version=2)
    first = await page.receive()
    ended = chat_messages.AnswerSoFar(
        message_id=message, text="One.\n\nTwo.", thinking="", calls="[]", version=6, state="done"
    )
    await sync_to_async(chat_messages.save_answers)("other", [ended])
    frames = await told_until_end(page)

    assert (first["from"], first["blocks"]) == (0, ["<p>One.</p>", "<p>Two</p>"])
    assert (frames[-1]["state"], frames[-1]["version"]) == ("done", 6)


async def test_answer_of_a_process_that_is_gone_ends_interrupted(page: Socket, alice: User) -> None:
    long_ago = timezone.now() - timedelta(seconds=chat_messages.SILENCE_S + 1)
    message = await elsewhere(alice, text="So far", version=3, beat_at=long_ago)
    await page.send(type="follow", id="f", message=message, version=3)
    frames = await told_until_end(page)

    assert frames[-1]["state"] == "interrupted"
    assert "<p>So far</p>" in frames[-1]["html"]
    row = await row_of(message)
    assert (row.state, row.text, row.version) == ("interrupted", "So far", 4)


async def test_failure_of_the_engine_is_the_answers_end(
    node: FakeNode, model: str, page: Socket
) -> None:
    node.scripts.append(
        Script(pieces=("Half",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )
    _, ended = await answered(page, model)

    assert (ended["state"], ended["error"]) == ("failed", "gone")
    row = await row_of(ended["message"])
    assert (row.text, row.error) == ("Half", "gone")
    assert row.error_id.startswith("req_")


async def test_engine_that_goes_away_is_the_answers_end(
    node: FakeNode, model: str, page: Socket
) -> None:
    node.scripts.append(Script(pieces=("Half",), cuts_connection=True))
    _, ended = await answered(page, model)

    assert ended["state"] == "failed"
    assert (await row_of(ended["message"])).state == "failed"


async def test_access_that_ends_ends_the_answer(node: FakeNode, model: str, page: Socket) -> None:
    node.scripts.append(Script(pieces=("Half",), is_held=True))
    started = await ask(page, model)
    await node.wait_for(Generate)
    await Session.objects.all().adelete()
    row = await ended_row(started["message"])

    assert (row.state, row.error) == ("failed", "unauthorized: access has ended")
    await node.wait_for(Cancel)


async def test_answer_that_was_taken_for_lost_is_told_as_its_row_says(
    node: FakeNode, model: str, page: Socket
) -> None:
    node.scripts.append(Script(pieces=("word",), is_held=True))
    started = await ask(page, model)
    await told_a_word(page)
    row = ChatMessage.objects.filter(message_id=started["message"])
    await row.aupdate(state="interrupted", text="wo")
    ended = (await told_until_end(page))[-1]

    assert (ended["type"], ended["state"]) == ("ended", "interrupted")
    assert "<p>wo</p>" in ended["html"]
    await node.wait_for(Cancel)


async def test_deleting_the_chat_ends_its_answer(
    node: FakeNode, model: str, page: Socket, alice: User
) -> None:
    node.scripts.append(Script(pieces=("Half",), is_held=True))
    started = await ask(page, model)
    await node.wait_for(Generate)
    delete = sync_to_async(chats.delete_chat)
    await delete(await principal_for_page(alice), started["chat"])
    frames = await told_until_end(page)

    assert (frames[-1]["state"], frames[-1]["html"]) == ("failed", "")
    assert "deleted" in frames[-1]["error"]
    await node.wait_for(Cancel)
    assert await ChatMessage.objects.acount() == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": " "}, "nothing to answer"),
        ({"text": "x" * (1024 * 1024 + 1)}, "longer than 1 MB"),
        ({"text": "x", "images": [{"data": PIXEL}] * 9}, "8 images at most"),
        ({"text": "x", "images": [{"data": "eA=="}]}, "image"),
        ({"text": "x", "images": [{"data": "%"}]}, "base64"),
        ({"text": "x", "images": [{"data": PIXEL}]}, "image input"),  # the model cannot see
        ({"text": "x", "model": ""}, "choose a model"),
        ({"text": "x", "model": "nope"}, "model 'nope' not found"),
        ({"text": "x", "options": {"temperature": "hot"}}, "temperature"),
        ({"text": "x", "options": 3}, "options"),
        ({"text": "x", "think": "loud"}, "think"),
        ({"text": "x", "chat": "0" * 32}, "there is no such chat"),
        ({"text": "x", "chat": "%00"}, "there is no such chat"),
        ({"text": "x", "folder": "0" * 32}, "there is no such folder"),
        ({"text": "x", "tools": [TOOL]}, "tools"),
    ],
)
async def test_refused_question_leaves_nothing_behind(
    node: FakeNode, model: str, page: Socket, fields: dict[str, Any], words: str
) -> None:
    await page.send(**{"type": "ask", "id": "q", "model": model, **fields})
    refused = await page.receive()

    assert (refused["type"], refused["id"]) == ("error", "q")
    assert words in refused["error"]
    assert refused["error_id"].startswith("req_")
    assert await Chat.objects.acount() == 0
    assert not node.got(Generate)


async def test_question_without_an_engine_leaves_nothing_behind(
    settings: Any, model: str, page: Socket
) -> None:
    settings.ENGINE_SOCKET = settings.ENGINE_SOCKET.with_name("nowhere.sock")
    refused = await ask(page, model)

    assert (refused["type"], "not available" in refused["error"]) == ("error", True)
    assert await Chat.objects.acount() == 0


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "follow", "version": 0},
        {"type": "stop"},
        {"type": "regenerate"},
        {"type": "result", "results": [{"name": "f", "content": "x"}]},
    ],
)
async def test_another_persons_message_is_answered_like_none(
    node: FakeNode, model: str, page: Socket, open_as: Open, bob: User, frame: dict[str, Any]
) -> None:
    node.scripts.append(Script(pieces=("secret ",), is_held=True))
    started = await ask(page, model)
    stranger = await open_as(bob)

    async def told(message: str) -> Any:
        await stranger.send(**frame, id="f", message=message)
        answer = await stranger.receive()
        return {name: answer[name] for name in ("type", "id", "error")}

    assert await told(started["message"]) == await told("f" * 32)
    assert (await row_of(started["message"])).state == "running"


async def test_another_persons_chat_is_answered_like_none(
    node: FakeNode, model: str, page: Socket, open_as: Open, bob: User
) -> None:
    started, _ = await answered(page, model)
    stranger = await open_as(bob)
    refused = await ask(stranger, model, chat=started["chat"], parent=started["message"])

    assert refused["error"] == "there is no such chat"


async def test_conversation_goes_on_from_its_parent(
    node: FakeNode, model: str, page: Socket
) -> None:
    first, _ = await answered(page, model)
    chat = first["chat"]
    second, _ = await answered(page, model, "More", chat=chat, parent=first["message"])

    assert second["parent"] == first["message"]
    assert messages_of(node.got(Generate)[-1]) == [
        ("user", "Hello"),
        ("assistant", "Hello."),
        ("user", "More"),
    ]


async def test_edit_makes_a_branch(node: FakeNode, model: str, page: Socket, alice: User) -> None:
    first, _ = await answered(page, model)
    edited, ended = await answered(page, model, "Hello again", chat=first["chat"], parent=None)
    read = sync_to_async(chat_messages.read_branch)
    chat, branch = await read(await principal_for_page(alice), first["chat"])

    assert messages_of(node.got(Generate)[-1]) == [("user", "Hello again")]
    assert [record.text for record in branch] == ["Hello again", "Hello."]
    assert branch[0].siblings == (first["question"], edited["question"])
    assert chat.title == "Hello"
    assert ended["title"] == "Hello"


async def test_regenerate_makes_another_answer_beside_it(
    node: FakeNode, model: str, page: Socket
) -> None:
    first, _ = await answered(page, model, options={"temperature": 0.1})
    await page.send(type="regenerate", id="r", message=first["message"])
    again, *_, ended = await told_until_end(page)

    assert (again["question"], again["parent"]) == (None, first["question"])
    assert again["html"].count("<article") == 1
    assert messages_of(node.got(Generate)[-1]) == [("user", "Hello")]
    assert node.got(Generate)[-1].sampling.temperature == 0.1
    assert ended["message"] != first["message"]


async def test_question_under_an_answer_that_runs_is_refused(
    node: FakeNode, model: str, page: Socket
) -> None:
    node.scripts.append(Script(pieces=("word",), is_held=True))
    started = await ask(page, model)
    await page.send(
        type="ask", id="b", model=model, text="x", chat=started["chat"], parent=started["message"]
    )
    refused = (await page.receive_until("error"))[-1]

    assert (refused["id"], "still being written" in refused["error"]) == ("b", True)


async def test_thinking_and_calls_are_kept_and_results_go_on(
    node: FakeNode, page: Socket, make_model: MakeModel
) -> None:
    template = "{{ .Tools }}{{ range .Messages }}{{ .Content }}{{ .ToolCalls }}{{ end }}"
    model = await sync_to_async(make_model)("tools:1", template=template)
    call = ToolCall(id="call_1", name="weather", arguments={"place": "<b>Köln</b>"})
    thought = Token(request_id="", thinking="Hm.")
    node.scripts.append(Script(pieces=(thought, Token(request_id="", tool_calls=(call,)))))
    started = await ask(page, model, tools=[TOOL])
    frames = await told_until_end(page)
    html = next(frame["calls"] for frame in frames if frame.get("calls"))

    assert "weather" in html[0]
    assert "&lt;b&gt;K" in html[0]
    assert "<b>" not in html[0]
    row = await row_of(started["message"])
    assert (row.thinking, "weather" in row.calls) == ("Hm.", True)
    await page.send(
        type="result",
        id="r",
        message=started["message"],
        results=[{"name": "weather", "content": "sunny"}],
    )
    second = await page.receive()
    assert (second["type"], second["question"]) == ("started", None), second
    assert (await told_until_end(page))[-1]["state"] == "done"
    prompt = node.got(Generate)[-1].prompt
    assert isinstance(prompt, ChatPrompt)
    assert [message.role for message in prompt.messages] == ["user", "assistant", "tool"]
    assert prompt.messages[1].tool_calls[0].name == "weather"
    assert (prompt.messages[2].content, prompt.messages[2].tool_name) == ("sunny", "weather")


async def test_waiting_is_told(node: FakeNode, model: str, page: Socket) -> None:
    node.scripts.append(Script(pieces=(), is_held=True))
    started = await ask(page, model)
    waiting = await page.receive()

    assert waiting == {
        "type": "waiting",
        "message": started["message"],
        "position": 0,
        "reason": "starting",
    }


async def test_temporary_chat_is_not_kept(node: FakeNode, model: str, page: Socket) -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    started, ended = await answered(page, model, "c", temporary=True, history=history)

    assert (started["chat"], started["question"], started["temporary"]) == (None, None, True)
    assert (ended["state"], "<p>Hello.</p>" in ended["html"]) == ("done", True)
    assert messages_of(node.got(Generate)[0]) == [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert await Chat.objects.acount() == 0


async def test_temporary_answer_is_followed_by_its_owner_alone(
    node: FakeNode, model: str, page: Socket, open_as: Open, alice: User, bob: User
) -> None:
    started, ended = await answered(page, model, temporary=True)
    again, stranger = await open_as(alice), await open_as(bob)
    for socket in (again, stranger):
        await socket.send(type="follow", id="f", message=started["message"], version=0)

    assert await again.receive() == ended
    assert (await stranger.receive())["error"] == "there is no such message"


async def test_temporary_answer_that_nobody_follows_is_stopped(
    node: FakeNode, model: str, page: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "KEPT_S", 0.1)
    node.scripts.append(Script(pieces=("word",), is_held=True))
    await ask(page, model, temporary=True)
    await node.wait_for(Generate)
    await page.wire.disconnect(timeout=60)

    await node.wait_for(Cancel)


async def test_number_of_answers_is_bounded(
    node: FakeNode, model: str, page: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_messages, "MAX_RUNNING", 1)
    node.default = Script(pieces=("word",), is_held=True)
    await ask(page, model)
    await page.send(type="ask", id="b", model=model, text="x")
    refused = (await page.receive_until("error"))[-1]

    assert (refused["id"], "already" in refused["error"]) == ("b", True)
    assert await Chat.objects.acount() == 1
    assert len([one async for one in ChatMessage.objects.filter(state="running")]) == 1


async def test_images_are_kept_and_sent_again(
    node: FakeNode, page: Socket, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference import assembly

    monkeypatch.setattr(assembly, "_check_late", lambda *_: None)
    model = await sync_to_async(make_model)("sees:1", template=CHATML)
    first, _ = await answered(page, model, "What?", images=[{"name": "a.png", "data": PIXEL}])
    await answered(page, model, "And?", chat=first["chat"], parent=first["message"])

    prompt = node.got(Generate)[-1].prompt
    assert isinstance(prompt, ChatPrompt)
    assert [len(message.images) for message in prompt.messages] == [1, 0, 0]
    stored = await ChatImage.objects.aget()
    assert (stored.name, stored.media_type) == ("a.png", "image/png")
    assert f"/chat/images/{stored.image_id}" in first["html"]


@pytest.mark.parametrize(
    "text", [" ", "{", "[]", "{}", '{"type": "ask"}', '{"type": "dance", "id": "a"}']
)
async def test_frame_that_makes_no_sense_is_an_error_and_not_the_end(
    node: FakeNode, model: str, page: Socket, text: str
) -> None:
    await page.wire.send_to(text_data=text)
    refused = await page.receive()
    _, ended = await answered(page, model)

    assert refused["type"] == "error"
    assert ended["state"] == "done"


async def test_edited_question_keeps_its_images(
    node: FakeNode, page: Socket, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference import assembly

    monkeypatch.setattr(assembly, "_check_late", lambda *_: None)
    model = await sync_to_async(make_model)("sees:1", template=CHATML)
    first, _ = await answered(page, model, "What?", images=[{"name": "a.png", "data": PIXEL}])
    edited, _ = await answered(
        page, model, "What is it?", chat=first["chat"], images_of=first["question"]
    )
    prompt = node.got(Generate)[-1].prompt
    assert isinstance(prompt, ChatPrompt)

    assert [len(message.images) for message in prompt.messages] == [1]
    assert await ChatImage.objects.filter(message=edited["question"], name="a.png").acount() == 1


async def test_silent_answer_says_that_the_line_is_alive(
    node: FakeNode, model: str, page: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "ALIVE_EVERY_S", 0.05)
    node.scripts.append(Script(pieces=("word",), is_held=True))
    await ask(page, model)
    first = await told_a_word(page)
    second = await page.receive()

    assert (second["version"], second["from"], second["blocks"]) == (first["version"], 1, [])


async def test_follow_is_answered_at_once_by_whoever_has_it_all(
    node: FakeNode, model: str, page: Socket, open_as: Open, alice: User
) -> None:
    node.scripts.append(Script(pieces=("word",), is_held=True))
    started = await ask(page, model)
    version = (await told_a_word(page))["version"]
    other = await open_as(alice)
    for known, start in ((version, 1), (-1, 0)):
        await other.send(type="follow", id="f", message=started["message"], version=known)
        told = await other.receive()
        assert (told["type"], told["version"], told["from"]) == ("growth", version, start)
