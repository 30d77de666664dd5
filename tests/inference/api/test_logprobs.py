"""Log probabilities in every dialect, streamed and whole (contract 1.2, 1.3, 3.3, 3.4, 6.9)."""

import math
from typing import Any

import pytest

from inference.api.answers import token_entry
from inference.messages import Generate, Token, TokenLogprob, TopToken
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient

HELLO = [{"role": "user", "content": "Hello"}]
I_TOKEN = TokenLogprob(
    token=b"I",
    logprob=-0.5,
    top=(TopToken(token=b"I", logprob=-0.5), TopToken(token=b"The", logprob=-2.0)),
)
AM_TOKEN = TokenLogprob(token=b"'m", logprob=-0.25)
I_ENTRY = {
    "token": "I",
    "logprob": -0.5,
    "bytes": [73],
    "top_logprobs": [
        {"token": "I", "logprob": -0.5, "bytes": [73]},
        {"token": "The", "logprob": -2.0, "bytes": [84, 104, 101]},
    ],
}
AM_ENTRY = {"token": "'m", "logprob": -0.25, "bytes": [39, 109]}
ASKED = {"logprobs": True, "top_logprobs": 2}
SCRIPT = Script(
    pieces=(Token(request_id="", text="I", logprobs=(I_TOKEN,)),),
    last_text="'m",
    last_logprobs=(AM_TOKEN,),
)
NATIVE = [("/api/chat", {"messages": HELLO}), ("/api/generate", {"prompt": "Hello"})]
OPENAI = "/v1/chat/completions"


@pytest.mark.parametrize(("path", "body"), [*NATIVE, (OPENAI, {"messages": HELLO})])
async def test_engine_is_told_how_many_alternatives(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    await api.post(path, {"model": model, **body, **ASKED})

    assert (await node.wait_for(Generate)).top_logprobs == 2


@pytest.mark.parametrize(("path", "body"), NATIVE)
async def test_nobody_computes_what_is_not_asked_for(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    answer = await api.post(path, {"model": model, **body, "top_logprobs": 2, "stream": False})

    assert (await node.wait_for(Generate)).top_logprobs is None
    assert "logprobs" not in answer.text


@pytest.mark.parametrize(("path", "body"), NATIVE)
async def test_every_native_line_may_carry_them(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    node.scripts.append(SCRIPT)
    first, last = (await api.post(path, {"model": model, **body, **ASKED})).lines()

    assert list(first)[-1] == "logprobs"
    assert (first["logprobs"], last["logprobs"]) == ([I_ENTRY], [AM_ENTRY])


@pytest.mark.parametrize(("path", "body"), NATIVE)
async def test_whole_native_answer_has_all_of_them(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    node.scripts.append(SCRIPT)
    answer = (await api.post(path, {"model": model, **body, **ASKED, "stream": False})).json()

    assert answer["logprobs"] == [I_ENTRY, AM_ENTRY]


async def test_they_stand_before_the_times_in_a_chat_and_behind_them_elsewhere(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.default = SCRIPT
    body = {"model": model, **ASKED, "stream": False}
    chat = (await api.post("/api/chat", {**body, "messages": HELLO})).json()
    generate = (await api.post("/api/generate", {**body, "prompt": "x"})).json()

    assert list(chat)[4:7] == ["done_reason", "logprobs", "total_duration"]
    assert list(generate)[-1] == "logprobs"


async def test_line_without_text_is_sent_for_its_logprobs(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(Token(request_id="", text="", logprobs=(AM_TOKEN,)), "ä")))
    lines = (await api.post("/api/chat", {"model": model, "messages": HELLO, **ASKED})).lines()

    assert [line["message"]["content"] for line in lines] == ["", "ä", ""]
    assert lines[0]["logprobs"] == [AM_ENTRY]


async def test_openai_chunks_carry_them_in_their_choice(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(SCRIPT)
    body = {"model": model, "messages": HELLO, "stream": True, **ASKED}
    first, last, finish, _ = (await api.post(OPENAI, body)).events()

    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "I"},
            "finish_reason": None,
            "logprobs": {"content": [I_ENTRY], "refusal": None},
        }
    ]
    assert last["choices"][0]["logprobs"]["content"] == [{**AM_ENTRY, "top_logprobs": []}]
    assert "logprobs" not in finish["choices"][0]


async def test_end_that_has_only_logprobs_has_a_chunk(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), last_logprobs=(AM_TOKEN,)))
    body = {"model": model, "messages": HELLO, "stream": True, **ASKED}
    _, last, finish, _ = (await api.post(OPENAI, body)).events()

    assert last["choices"][0]["delta"] == {"content": ""}
    assert "logprobs" in last["choices"][0]
    assert finish["choices"][0]["finish_reason"] == "stop"


async def test_whole_openai_answer_has_all_of_them(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(SCRIPT)
    [choice] = (await api.post(OPENAI, {"model": model, "messages": HELLO, **ASKED})).json()[
        "choices"
    ]

    assert list(choice) == ["index", "message", "finish_reason", "logprobs"]
    assert choice["logprobs"]["content"] == [I_ENTRY, {**AM_ENTRY, "top_logprobs": []}]


def test_half_a_character_keeps_its_bytes() -> None:
    entry = token_entry(TokenLogprob(token="é".encode()[:1], logprob=-1.0))

    assert entry == {"token": "\ufffd", "logprob": -1.0, "bytes": [195]}


@pytest.mark.parametrize("logprob", [-math.inf, math.nan, -1e9])
def test_what_json_cannot_say_is_written_as_hardly_possible(logprob: float) -> None:
    assert token_entry(TokenLogprob(token=b"x", logprob=logprob))["logprob"] == -9999.0
