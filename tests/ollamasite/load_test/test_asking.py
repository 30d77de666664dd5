"""Tests of ollamasite.load_test.asking: one question over HTTP, timed."""

import pytest
from httpx2 import AsyncClient

from ollamasite.load_test.asking import Answer, Api, Question, ask
from tests.ollamasite.load_test.chat_server import ChatServer

QUESTION = Question(model="m", text="a few words", max_tokens=9, key="osk-1")
both = pytest.mark.parametrize("api", list(Api))


async def answer_of(server: ChatServer, api: Api, *, timeout_s: float = 30.0) -> Answer:
    async with server.running(), AsyncClient(base_url=server.url, timeout=timeout_s) as client:
        return await ask(client, api, QUESTION)


@both
async def test_every_piece_has_its_moment(api: Api) -> None:
    server = ChatServer(pieces=4, first_s=0.2, gap_s=0.1, queue_ms=37)

    answer = await answer_of(server, api)

    assert answer.failure == ""
    assert len(answer.arrivals_s) == 4
    assert answer.first_s is not None
    assert answer.first_s >= 0.2
    # Of the gaps alone nothing can be said here: a busy machine reads the first piece late.
    assert answer.first_s + sum(answer.gaps_s) >= 0.5
    assert answer.arrivals_s == sorted(answer.arrivals_s)
    assert answer.sent_s < answer.arrivals_s[-1] <= answer.ended_s
    assert (answer.prompt_tokens, answer.completion_tokens) == (round(3 * 1.5) + 7, 4)
    assert answer.queue_s == 0.037


@both
async def test_question_is_what_the_api_wants(api: Api) -> None:
    server = ChatServer()
    await answer_of(server, api)

    asked = server.asked[0]
    assert asked["messages"] == [{"role": "user", "content": "a few words"}]
    assert asked["stream"] is True
    assert 9 in (asked.get("max_tokens"), asked.get("options", {}).get("num_predict"))
    assert server.keys == ["bearer osk-1"]


@pytest.mark.parametrize(
    ("server", "failure"),
    [
        (ChatServer(cuts=True), "the connection was cut"),
        (ChatServer(pieces=0, status=503, error="busy with 3"), "HTTP 503"),
        (ChatServer(status=429, error={"code": "slow_down", "message": "5"}), "HTTP 429 slow_down"),
        (ChatServer(error={"code": "gone", "message": "x"}), "error in the stream: gone"),
    ],
)  # fmt: skip
async def test_failure_is_told_by_its_kind(server: ChatServer, failure: str) -> None:
    answer = await answer_of(server, Api.OPENAI)

    assert answer.failure == failure


async def test_silence_is_a_failure() -> None:
    answer = await answer_of(ChatServer(first_s=30), Api.OPENAI, timeout_s=0.3)

    assert (answer.failure, answer.first_s) == ("timed out", None)


async def test_nobody_there_is_a_failure() -> None:
    async with ChatServer().running() as server:
        url = server.url
    async with AsyncClient(base_url=url) as client:
        assert (await ask(client, Api.OLLAMA, QUESTION)).failure == "cannot connect"
