"""Streams and answers of /v1/chat/completions as OpenAI's SDKs need them (contract 3.3, 3.4, 9)."""

from typing import Any

import pytest

from inference.messages import ChoiceEnded, DoneReason, Generate, Token, ToolCall, Usage
from registry import manifests
from tests.conftest import MakeModel
from tests.contract.conftest import ABLE_TEMPLATE
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.fakes.peer import answer, peer
from tests.model_layers import add_layer
from tests.vision_files import write_image

URL = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def able(transactional_db: None, make_model: MakeModel) -> str:
    return make_model("able:1b", template=ABLE_TEMPLATE)


@pytest.fixture
def seeing(transactional_db: None, make_model: MakeModel) -> str:
    name = make_model("seeing")
    add_layer(name, manifests.PROJECTOR, b"a projector")
    return name


def calling(*names: str, choice: int = 0) -> Token:
    calls = tuple(ToolCall(name=name, arguments={}, id=f"call_{name}") for name in names)
    return Token(request_id="", tool_calls=calls, choice=choice)


async def choices_of(api: AsgiClient, model: str, **body: Any) -> list[Any]:
    asked = {"model": model, "messages": HELLO, "stream": True, **body}
    *chunks, done = (await api.post(URL, asked)).events()
    assert done == "[DONE]"
    return [chunk["choices"][0] for chunk in chunks]


async def test_choices_begin_in_order_whichever_speaks_first(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    pieces = (Token(request_id="", text="c", choice=2), Token(request_id="", text="a", choice=0))
    node.scripts.append(Script(pieces=pieces))
    choices = await choices_of(api, model, n=3)

    assert [(choice["index"], choice["delta"]) for choice in choices[:4]] == [
        (0, {"role": "assistant", "content": ""}),
        (1, {"role": "assistant", "content": ""}),
        (2, {"role": "assistant", "content": "c"}),
        (0, {"content": "a"}),
    ]


async def test_choice_that_only_thinks_first_begins_in_order(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    piece = Token(request_id="", thinking="t", text="b", choice=1)
    node.scripts.append(Script(pieces=(piece,)))
    first, second, *_ = await choices_of(api, model, n=2)

    assert (first["index"], first["delta"]) == (0, {"role": "assistant", "content": ""})
    assert second["delta"] == {"role": "assistant", "content": "", "reasoning": "t"}


async def test_choice_that_ends_first_begins_in_order(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    ended = ChoiceEnded(request_id="", choice=1, reason=DoneReason.STOP)
    node.scripts.append(Script(pieces=(ended,)))
    choices = await choices_of(api, model, n=2)

    assert [choice["index"] for choice in choices if "role" in choice["delta"]] == [0, 1]


async def test_calls_are_numbered_within_their_choice(
    node: FakeNode, able: str, api: AsgiClient
) -> None:
    pieces = (calling("f"), calling("g", "h"), calling("f", choice=1))
    node.scripts.append(Script(pieces=pieces))
    choices = await choices_of(api, able, n=2, tools=[TOOL])

    numbers = [
        (choice["index"], [call["index"] for call in choice["delta"]["tool_calls"]])
        for choice in choices
        if "tool_calls" in choice["delta"]
    ]
    assert numbers == [(0, [0]), (0, [1, 2]), (1, [0])]


async def test_calls_of_a_whole_answer_are_numbered(
    node: FakeNode, able: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(calling("f"), calling("g"))))
    body = {"model": able, "messages": HELLO, "tools": [TOOL]}
    message = (await api.post(URL, body)).json()["choices"][0]["message"]

    assert [(call["index"], call["id"]) for call in message["tool_calls"]] == [
        (0, "call_f"),
        (1, "call_g"),
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_tells_of_cache_and_thinking(
    node: FakeNode, model: str, api: AsgiClient, stream: bool
) -> None:
    usage = Usage(prompt_tokens=9, cached_tokens=4, completion_tokens=7, reasoning_tokens=5)
    node.scripts.append(Script(usage=usage))
    body = {"stream": stream, "stream_options": {"include_usage": True}}
    answer = await api.post(URL, {"model": model, "messages": HELLO, **body})
    last = answer.events()[-2] if stream else answer.json()

    assert last["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 7,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }


@pytest.mark.parametrize(("asked", "told"), [("auto", "default"), (None, None)])
async def test_tier_is_told_where_one_was_asked_for(
    node: FakeNode, model: str, api: AsgiClient, asked: str | None, told: str | None
) -> None:
    body = {"model": model, "messages": HELLO, "service_tier": asked}
    whole = (await api.post(URL, body)).json()
    first, *_ = (await api.post(URL, {**body, "stream": True})).events()

    assert (whole.get("service_tier"), first.get("service_tier")) == (told, told)


async def test_forced_tools_reach_the_engine(node: FakeNode, able: str, api: AsgiClient) -> None:
    choice = {"type": "function", "function": {"name": "f"}}
    body = {"model": able, "messages": HELLO, "tools": [TOOL], "tool_choice": choice}
    await api.post(URL, body)
    request = await node.wait_for(Generate)

    assert (request.forced_tools, request.most_calls) == (("f",), 1)


async def test_address_of_an_image_is_refused_where_the_site_fetches_none(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}}
    body = {"model": model, "messages": [{"role": "user", "content": [part]}]}
    answer = await api.post(URL, body)

    assert answer.status == 400
    assert answer.json()["error"]["param"] == "messages"
    assert "image URLs are not currently supported" in answer.json()["error"]["message"]


async def test_image_at_an_address_reaches_the_engine_where_the_site_fetches_it(
    node: FakeNode, seeing: str, api: AsgiClient, settings: Any
) -> None:
    picture = write_image("PNG")
    settings.PRIVATE_HOSTS = ["127.0.0.1"]
    async with peer(answer(picture)) as host:
        settings.IMAGE_HOSTS = [f"http://127.0.0.1:{host.port}"]
        part = {"type": "image_url", "image_url": {"url": host.url("/a", host="127.0.0.1")}}
        messages = [{"role": "user", "content": [part]}]
        answered = await api.post(URL, {"model": seeing, "messages": messages})
    prompt: Any = (await node.wait_for(Generate)).prompt

    assert answered.status == 200
    assert prompt.messages[0].images == (picture,)


async def test_refused_field_is_named(node: FakeNode, model: str, api: AsgiClient) -> None:
    body = {"model": model, "messages": HELLO, "modalities": ["text", "audio"]}
    answer = await api.post(URL, body)

    assert answer.status == 400
    assert answer.json()["error"]["param"] == "modalities"
    assert node.got(Generate) == []
