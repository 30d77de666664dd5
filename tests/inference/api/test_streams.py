"""Events become an answer in one way only, and every accepted request comes to an end."""

import asyncio
import logging
import re
from typing import Any

import pytest
from django.http import StreamingHttpResponse

from inference.api.answers import Answer
from inference.api.native_writers import ChatWriter
from inference.api.streams import respond
from inference.messages import (
    Cancel,
    ChatMessage,
    DoneReason,
    FailureCode,
    Finished,
    Priority,
    PromptScored,
    Started,
    Token,
    TokenLogprob,
)
from inference.requests import Caller, ChatRequest
from models_app.models import User
from ollamasite.errors import ServiceError
from tests.conftest import principal_for
from tests.fakes.engine import FakeNode, Script

ASKED = ChatRequest(model="smollm2:135m", messages=(ChatMessage(role="user", content="Hello"),))


def caller_for(user: User) -> Caller:
    return Caller(principal=principal_for(user), priority=Priority.API)


class WordyWriter(ChatWriter):
    """Says something before the first piece."""

    def begin(self, started: Started | None) -> bytes:
        assert started is not None
        return f"{started.prompt_tokens} tokens\n".encode()


class BrokenWriter(ChatWriter):
    """Fails at the second piece, as a bug of ours would."""

    pieces = 0

    def piece(self, token: Token) -> bytes:
        self.pieces += 1
        if self.pieces > 1:
            raise RuntimeError("a secret of the inside")
        return super().piece(token)


async def chunks_of(response: Any) -> list[bytes]:
    assert isinstance(response, StreamingHttpResponse)
    stream: Any = response.streaming_content
    return [chunk async for chunk in stream]


async def test_unknown_exception_in_mid_stream_is_told_by_its_id_alone(
    node: FakeNode, model: str, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    node.scripts.append(Script(pieces=("a", "b", "c"), is_held=True))
    with caplog.at_level(logging.ERROR):
        response = await respond(caller_for(alice), ASKED, BrokenWriter(model), is_streamed=True)
        last = (await chunks_of(response))[-1].decode()

    told = re.fullmatch(r'\{"error":"internal server error \(id (req_[0-9a-f]+)\)"\}\n', last)
    assert told is not None
    assert told[1] in caplog.text
    await node.wait_for(Cancel)


async def test_early_failure_is_raised_before_there_is_a_response(
    node: FakeNode, model: str, alice: User
) -> None:
    node.scripts.append(Script(pieces=(), failure=FailureCode.PROMPT_TOO_LONG))

    with pytest.raises(ServiceError) as caught:
        await respond(caller_for(alice), ASKED, ChatWriter(model), is_streamed=True)

    assert caught.value.status == 400


async def test_answer_that_nobody_begins_to_read_is_cancelled_with_its_task(
    node: FakeNode, model: str, alice: User
) -> None:
    node.scripts.append(Script(pieces=("a",), is_held=True))
    task = asyncio.create_task(
        respond(caller_for(alice), ASKED, ChatWriter(model), is_streamed=True)
    )
    response = await task
    await node.wait_for(Cancel)
    response.close()


async def test_pieces_are_sent_as_they_come(node: FakeNode, model: str, alice: User) -> None:
    node.scripts.append(Script(pieces=("a", "b"), is_held=True))
    response: Any = await respond(caller_for(alice), ASKED, ChatWriter(model), is_streamed=True)
    stream = aiter(response.streaming_content)
    first = await anext(stream)
    second = await anext(stream)

    assert b'"content":"a"' in first
    assert b'"content":"b"' in second


async def test_events_of_one_frame_are_all_there(node: FakeNode, model: str, alice: User) -> None:
    node.scripts.append(Script(pieces=tuple("abcdef"), is_coalesced=True))
    response = await respond(caller_for(alice), ASKED, ChatWriter(model), is_streamed=True)

    assert len(await chunks_of(response)) == 7


async def test_writer_may_begin_before_the_first_piece(
    node: FakeNode, model: str, alice: User
) -> None:
    response = await respond(caller_for(alice), ASKED, WordyWriter(model), is_streamed=True)

    assert (await chunks_of(response))[0] == b"10 tokens\n"


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_what_is_to_be_done_before_the_end_is_done_once_and_before_it(
    node: FakeNode, model: str, alice: User, *, is_streamed: bool
) -> None:
    sent = 0
    seen: list[int] = []

    async def note() -> None:
        seen.append(sent)

    response: Any = await respond(
        caller_for(alice), ASKED, ChatWriter(model), is_streamed=is_streamed, before_end=note
    )
    if is_streamed:
        async for _ in response.streaming_content:
            sent += 1

    assert seen == [sent - 1 if is_streamed else 0]


async def test_failure_before_the_end_is_the_last_of_the_stream(
    node: FakeNode, model: str, alice: User
) -> None:
    async def fail() -> None:
        raise ServiceError("no room")

    response = await respond(
        caller_for(alice), ASKED, ChatWriter(model), is_streamed=True, before_end=fail
    )

    assert (await chunks_of(response))[-1] == b'{"error":"no room"}\n'


async def test_load_tells_nothing_of_a_queue(node: FakeNode, model: str, alice: User) -> None:
    asked = ChatRequest(model=model)
    response = await respond(caller_for(alice), asked, ChatWriter(model), is_streamed=False)

    assert "X-Queue-Ms" not in response.headers


def test_answer_keeps_what_the_prompt_scored() -> None:
    first, second = (TokenLogprob(token=text, logprob=-1.0) for text in (b"a", b"b"))
    finished = Finished(request_id="r", reason=DoneReason.STOP, text="!")
    answer = Answer()
    for event in (
        PromptScored(request_id="r", logprobs=(first,)),
        PromptScored(request_id="r", logprobs=(second,)),
        Token(request_id="r", text="x", logprobs=(first,)),
        finished,
    ):
        answer.add(event)
    [choice] = answer.choices(finished)

    assert answer.prompt_logprobs == [first, second]
    assert (choice.text, choice.logprobs, choice.reason) == ("x!", [first], DoneReason.STOP)
