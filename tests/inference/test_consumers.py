"""`ws/chat`: who gets in, what is streamed, how it is stopped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from channels.db import database_sync_to_async
from django.test import Client

from inference.consumers import MAX_ANSWERS
from inference.messages import (
    Cancel,
    FailureCode,
    Generate,
    Priority,
    Token,
    TokenLogprob,
    ToolCall,
)
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import ApiKey, User
from models_app.permissions import Scope
from tests.fakes.engine import FakeNode, Script
from tests.fakes.websocket import Socket
from tests.inference.conftest import bearer_for

ORIGIN = (b"origin", b"http://localhost:11434")
HELLO = [{"role": "user", "content": "Hello"}]

Open = Callable[..., Awaitable[Socket]]


@pytest.fixture
async def connect(transactional_db: None) -> AsyncIterator[Open]:
    sockets: list[Socket] = []

    async def make(*headers: tuple[bytes, bytes], path: str = "/ws/chat") -> Socket:
        socket = Socket(*headers, path=path)
        sockets.append(socket)
        is_accepted, _ = await socket.wire.connect(timeout=20)
        assert is_accepted
        return socket

    yield make
    for socket in sockets:
        # A wait that timed out in the test has cancelled the application already.
        with contextlib.suppress(asyncio.CancelledError):
            await socket.wire.disconnect(timeout=20)


@pytest.fixture
def key_header(transactional_db: None, alice: User) -> tuple[bytes, bytes]:
    return (b"authorization", bearer_for(alice)["authorization"].encode())


@pytest.fixture
def browser(transactional_db: None, alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def cookie(browser: Client) -> tuple[bytes, bytes]:
    value = browser.cookies["ollamasite_session"].value
    return (b"cookie", f"ollamasite_session={value}".encode())


@pytest.fixture
async def socket(connect: Open, key_header: tuple[bytes, bytes]) -> Socket:
    return await connect(key_header)


async def test_chat_is_streamed_and_done(node: FakeNode, model: str, socket: Socket) -> None:
    await socket.send(type="chat", id="a", model=model, messages=HELLO)
    *tokens, done = await socket.receive_until("done", "error")

    assert tokens == [
        {"type": "token", "id": "a", "text": "Hello"},
        {"type": "token", "id": "a", "text": "."},
    ]
    assert (done["type"], done["id"], done["done_reason"]) == ("done", "a", "stop")
    assert (done["prompt_eval_count"], done["eval_count"]) == (10, 3)
    assert done["total_duration"] > 0


async def test_fields_of_a_chat_reach_the_engine(
    node: FakeNode, model: str, socket: Socket
) -> None:
    options = {"num_predict": 5}
    await socket.send(
        type="chat", id="a", model=model, messages=HELLO, options=options, keep_alive="1m"
    )
    request = await node.wait_for(Generate)

    assert (request.user, request.sampling.num_predict, request.keep_alive_s) == ("alice", 5, 60)


async def test_somebody_waits_for_a_chat_whatever_opened_the_socket(
    node: FakeNode, model: str, socket: Socket
) -> None:
    await socket.send(type="chat", id="a", model=model, messages=HELLO)

    assert (await node.wait_for(Generate)).priority is Priority.INTERACTIVE


async def test_logprobs_come_with_their_text(node: FakeNode, model: str, socket: Socket) -> None:
    logprobs = (TokenLogprob(token=b"a", logprob=-1.0),)
    node.scripts.append(Script(pieces=(Token(request_id="", text="a", logprobs=logprobs),)))
    await socket.send(type="chat", id="a", model=model, messages=HELLO, logprobs=True)

    assert await socket.receive() == {
        "type": "token",
        "id": "a",
        "text": "a",
        "logprobs": [{"token": "a", "logprob": -1.0, "bytes": [97]}],
    }


async def test_thinking_and_calls_come_beside_the_text(
    node: FakeNode, model: str, socket: Socket
) -> None:
    call = ToolCall(id="call_1", name="f", arguments={"x": 1})
    thought = Token(request_id="", thinking="Hm")
    node.scripts.append(Script(pieces=(thought, Token(request_id="", tool_calls=(call,)))))
    await socket.send(type="chat", id="a", model=model, messages=HELLO)
    first, second, done = await socket.receive_until("done", "error")

    assert first == {"type": "token", "id": "a", "text": "", "thinking": "Hm"}
    assert second["tool_calls"] == [
        {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    ]
    assert done["type"] == "done"


async def test_prompts_are_not_shown_here(node: FakeNode, model: str, socket: Socket) -> None:
    await socket.send(type="chat", id="a", model=model, messages=HELLO, _debug_render_only=True)

    assert await socket.receive() == {
        "type": "error",
        "id": "a",
        "error": '"_debug_render_only" is not supported by this server',
    }
    assert node.got(Generate) == []


async def test_answers_run_beside_each_other(node: FakeNode, model: str, socket: Socket) -> None:
    node.scripts.append(Script(pieces=(), is_held=True))
    await socket.send(type="chat", id="slow", model=model, messages=HELLO)
    await node.wait_for(Generate)
    await socket.send(type="chat", id="quick", model=model, messages=HELLO)
    messages = await socket.receive_until("done", "error")

    assert {message["id"] for message in messages} == {"quick"}


async def test_stop_is_heard_at_once(node: FakeNode, model: str, socket: Socket) -> None:
    node.scripts.append(Script(pieces=("word",), is_held=True))
    await socket.send(type="chat", id="a", model=model, messages=HELLO)
    await socket.receive()
    await socket.send(type="stop", id="a")

    assert await socket.receive() == {"type": "done", "id": "a", "done_reason": "canceled"}
    await node.wait_for(Cancel)


async def test_stop_before_the_engine_knows_is_heard_too(
    node: FakeNode, model: str, socket: Socket
) -> None:
    node.default = Script(pieces=(), is_held=True)
    await socket.send(type="chat", id="a", model=model, messages=HELLO)
    await socket.send(type="stop", id="a")

    assert await socket.receive() == {"type": "done", "id": "a", "done_reason": "canceled"}


async def test_stopped_id_can_be_used_again(node: FakeNode, model: str, socket: Socket) -> None:
    node.scripts.append(Script(pieces=(), is_held=True))
    await socket.send(type="chat", id="a", model=model, messages=HELLO)
    await node.wait_for(Generate)
    await socket.send(type="stop", id="a")
    await socket.receive()
    await socket.send(type="chat", id="a", model=model, messages=HELLO)

    assert (await socket.receive_until("done", "error"))[-1]["done_reason"] == "stop"


async def test_stop_of_what_has_ended_is_ignored(
    node: FakeNode, model: str, socket: Socket
) -> None:
    await socket.send(type="chat", id="a", model=model, messages=HELLO)
    await socket.receive_until("done", "error")
    await socket.send(type="stop", id="a")

    assert await socket.wire.receive_nothing(timeout=0.1)


async def test_failure_is_an_error_of_its_answer(
    node: FakeNode, model: str, socket: Socket
) -> None:
    node.scripts.append(Script(failure=FailureCode.RUNNER_CRASHED, failure_message="gone"))
    await socket.send(type="chat", id="a", model=model, messages=HELLO)
    messages = await socket.receive_until("done", "error")

    assert messages[-1] == {"type": "error", "id": "a", "error": "gone"}


async def test_unknown_model_is_an_error(node: FakeNode, model: str, socket: Socket) -> None:
    await socket.send(type="chat", id="a", model="nope", messages=HELLO)

    assert await socket.receive() == {
        "type": "error",
        "id": "a",
        "error": "model 'nope' not found",
    }


async def test_leaving_cancels_everything(
    node: FakeNode, model: str, connect: Open, key_header: tuple[bytes, bytes]
) -> None:
    node.default = Script(pieces=(), is_held=True)
    leaving = await connect(key_header)
    for name in ("a", "b"):
        await leaving.send(type="chat", id=name, model=model, messages=HELLO)
    await node.wait_for(Generate, count=2)
    await leaving.wire.disconnect(timeout=20)

    await node.wait_for(Cancel, count=2)


async def test_number_of_answers_is_bounded(node: FakeNode, model: str, socket: Socket) -> None:
    node.default = Script(pieces=(), is_held=True)
    for number in range(MAX_ANSWERS + 1):
        await socket.send(type="chat", id=str(number), model=model, messages=HELLO)
    refused = await socket.receive()

    assert (refused["type"], refused["id"]) == ("error", str(MAX_ANSWERS))
    assert len(node.got(Generate)) <= MAX_ANSWERS


async def test_id_in_use_is_refused(node: FakeNode, model: str, socket: Socket) -> None:
    node.default = Script(pieces=(), is_held=True)
    for _ in range(2):
        await socket.send(type="chat", id="a", model=model, messages=HELLO)

    assert "running already" in (await socket.receive())["error"]


@pytest.mark.parametrize(
    ("text", "answer_id"),
    [
        (" ", None),
        ("{", None),
        ("[]", None),
        ("null", None),
        ("{}", None),
        ('{"type": "chat"}', None),
        ('{"type": "chat", "id": 3}', None),
        ('{"type": "chat", "id": ""}', None),
        ('{"type": "dance", "id": "a"}', "a"),
        ('{"type": "chat", "id": "a"}', "a"),
        ('{"type": "chat", "id": "a", "model": 3}', "a"),
        ('{"type": "chat", "id": "a", "model": "m", "messages": "x"}', "a"),
        ('{"type": "chat", "id": "a", "model": "m", "format": "json"}', "a"),
    ],
)
async def test_frame_that_makes_no_sense_is_an_error_and_not_the_end(
    node: FakeNode, model: str, socket: Socket, text: str, answer_id: str | None
) -> None:
    await socket.wire.send_to(text_data=text)
    refused = await socket.receive()
    await socket.send(type="chat", id="next", model=model, messages=HELLO)

    assert (refused["type"], refused["id"]) == ("error", answer_id)
    assert refused["error"]
    assert (await socket.receive_until("done", "error"))[-1]["type"] == "done"


async def test_binary_frame_is_an_error(model: str, socket: Socket) -> None:
    await socket.wire.send_to(bytes_data=b"\x00")

    assert (await socket.receive())["error"] == "messages must be text frames"


async def test_session_of_the_same_site_is_welcome(
    node: FakeNode, model: str, connect: Open, cookie: tuple[bytes, bytes]
) -> None:
    socket = await connect(cookie, ORIGIN)
    await socket.send(type="chat", id="a", model=model, messages=HELLO)

    assert (await socket.receive_until("done", "error"))[-1]["type"] == "done"


@pytest.mark.parametrize(
    "origin",
    [
        None,
        (b"origin", b"http://evil.example"),
        (b"origin", b"null"),
        (b"origin", b"http://localhost:8000"),
    ],
)
async def test_session_from_another_site_is_closed(
    connect: Open, cookie: tuple[bytes, bytes], origin: tuple[bytes, bytes] | None
) -> None:
    socket = await connect(cookie, *([origin] if origin else []))

    assert await socket.close_code() == 4403


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"authorization", b"Bearer nonsense"),),
        ((b"cookie", b"ollamasite_session=nonsense"), ORIGIN),
    ],
)
async def test_nobody_is_closed(
    transactional_db: None, connect: Open, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    socket = await connect(*headers)

    assert await socket.close_code() == 4401


@pytest.fixture
def reading_header(transactional_db: None, alice: User) -> tuple[bytes, bytes]:
    secret = create_key(alice, "reads", KeyRules(scopes=(Scope.READ,)))[1]
    return (b"x-api-key", secret.encode())


async def test_key_that_may_only_read_is_closed(
    connect: Open, reading_header: tuple[bytes, bytes]
) -> None:
    socket = await connect(reading_header)

    assert await socket.close_code() == 4403


async def test_revoked_key_asks_nothing_more(node: FakeNode, model: str, socket: Socket) -> None:
    await database_sync_to_async(lambda: revoke_key(ApiKey.objects.get()))()
    await socket.send(type="chat", id="a", model=model, messages=HELLO)

    assert await socket.close_code() == 4401
    assert node.got(Generate) == []


async def test_ended_session_asks_nothing_more(
    node: FakeNode, model: str, connect: Open, cookie: tuple[bytes, bytes], browser: Client
) -> None:
    socket = await connect(cookie, ORIGIN)
    await asyncio.to_thread(browser.logout)
    await socket.send(type="chat", id="a", model=model, messages=HELLO)

    assert await socket.close_code() == 4401


async def test_unknown_socket_is_refused(transactional_db: None) -> None:
    socket = Socket(path="/ws/nope")
    is_accepted, code = await socket.wire.connect(timeout=20)

    assert (is_accepted, code) == (False, 4404)


async def test_socket_with_a_foreign_host_is_refused(transactional_db: None) -> None:
    socket = Socket((b"host", b"evil.example"), path="/ws/chat")
    is_accepted, _ = await socket.wire.connect(timeout=20)

    assert not is_accepted
