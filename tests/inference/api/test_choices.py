"""`n` above 1 on `/v1/chat/completions`: several answers to one prompt."""

from typing import Any

from inference.messages import ChoiceEnded, DoneReason, Generate, Token, Usage
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient

URL = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
SCRIPT = Script(
    pieces=(
        Token(request_id="", text="a1", choice=0),
        Token(request_id="", text="b1", choice=1),
        ChoiceEnded(request_id="", choice=1, reason=DoneReason.LENGTH),
        Token(request_id="", text="a2", choice=0),
        ChoiceEnded(request_id="", choice=2, reason=DoneReason.STOP),
        ChoiceEnded(request_id="", choice=0, reason=DoneReason.STOP),
    ),
)


async def chunks_of(api: AsgiClient, model: str) -> list[Any]:
    body = {"model": model, "messages": HELLO, "n": 3, "stream": True}
    *chunks, done = (await api.post(URL, body)).events()
    assert done == "[DONE]"
    return [chunk["choices"][0] for chunk in chunks]


async def test_engine_is_told_how_many(node: FakeNode, model: str, api: AsgiClient) -> None:
    await api.post(URL, {"model": model, "messages": HELLO, "n": 3})

    assert (await node.wait_for(Generate)).choices == 3


async def test_whole_answer_has_the_choices_in_order(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(SCRIPT)
    choices = (await api.post(URL, {"model": model, "messages": HELLO, "n": 3})).json()["choices"]

    assert [
        (choice["index"], choice["message"]["content"], choice["finish_reason"])
        for choice in choices
    ] == [(0, "a1a2", "stop"), (1, "b1", "length"), (2, "", "stop")]


async def test_chunks_tell_whose_they_are(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(SCRIPT)
    chunks = await chunks_of(api, model)

    texts = [(c["index"], c["delta"].get("content")) for c in chunks if c["delta"]]
    assert texts == [(0, "a1"), (1, "b1"), (0, "a2"), (2, "")]


async def test_every_choice_has_its_role_and_its_finish_once(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(SCRIPT)
    chunks = await chunks_of(api, model)

    assert [c["index"] for c in chunks if "role" in c["delta"]] == [0, 1, 2]
    finishes = [(c["index"], c["finish_reason"]) for c in chunks if not c["delta"]]
    assert finishes == [(1, "length"), (2, "stop"), (0, "stop")]


async def test_choices_that_did_not_end_by_themselves_end_with_the_request(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), reason=DoneReason.LENGTH))
    chunks = await chunks_of(api, model)

    finishes = [(c["index"], c["finish_reason"]) for c in chunks if not c["delta"]]
    assert finishes == [(0, "length"), (1, "length"), (2, "length")]


async def test_usage_counts_them_together(node: FakeNode, model: str, api: AsgiClient) -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=4, reasoning_tokens=2)
    node.scripts.append(Script(pieces=SCRIPT.pieces, usage=usage))
    answer = (await api.post(URL, {"model": model, "messages": HELLO, "n": 3})).json()

    assert answer["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
