"""Requests that were sent to a real Ollama 0.33, and what it answered: status, type, keys, texts.

The exchanges are in `recorded_native` and `recorded_openai`; not in there is what is meant to
differ (a chat model embeds here).
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from inference.messages import DoneReason, Token, TokenLogprob, TopToken
from tests.contract import recorded_native, recorded_openai
from tests.contract.recorded import (
    DETAILS,
    HI,
    METRICS,
    NDJSON,
    NUMBER,
    NUMBERS,
    SSE,
    TEXT,
    TIME,
    Exchange,
    said,
)
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import Answer, AsgiClient

EXCHANGES: Final = [*recorded_native.EXCHANGES, *recorded_openai.EXCHANGES]


def body_of(answer: Answer, expected: Any) -> Any:
    if isinstance(expected, bytes):
        return answer.body
    if isinstance(expected, list):
        return answer.events() if answer.content_type == SSE else answer.lines()
    return answer.json()


KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    NUMBER: lambda value: isinstance(value, int) and value > 0,
    TIME: lambda value: value.endswith("Z"),
    TEXT: lambda value: isinstance(value, str) and value != "",
    NUMBERS: lambda value: all(isinstance(item, int) for item in value),
}


def assert_alike(found: Any, expected: Any, place: str = "$") -> None:
    """Compare key by key, their order included."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), place
        for key, value in expected.items():
            assert_alike(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, value in enumerate(expected):
            assert_alike(found[number], value, f"{place}[{number}]")
    elif isinstance(expected, str) and expected in KINDS:
        assert KINDS[expected](found), place
    else:
        assert found == expected, place


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)
async def test_exchange_is_answered_as_recorded(
    node: FakeNode, model: str, api: AsgiClient, exchange: Exchange
) -> None:
    node.default = Script(reason=DoneReason.STOP)
    method, path = exchange.request
    answer = await api.request(
        method, path, data=exchange.data, body=exchange.sent, headers=exchange.headers
    )

    assert (answer.status, answer.content_type) == (exchange.status, exchange.content_type)
    assert exchange.told.items() <= answer.headers.items()
    if method != "HEAD":  # the server that sends the answer leaves its body out
        assert_alike(body_of(answer, exchange.body), exchange.body)


async def test_chat_logprobs_have_the_recorded_shape(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    top = (TopToken(token=b"I", logprob=-2.5), TopToken(token=b"The", logprob=-3.0))
    token = TokenLogprob(token=b"I", logprob=-2.5, top=top)
    node.default = Script(pieces=(Token(request_id="", text="I", logprobs=(token,)),))
    data = {"model": model, "stream": False, "logprobs": True, "top_logprobs": 2, "messages": HI}
    answer = await api.post("/api/chat", data)

    entry = {"token": "I", "logprob": -2.5, "bytes": [73]}
    other = {"token": "The", "logprob": -3.0, "bytes": [84, 104, 101]}
    end = {"done": True, "done_reason": "stop"}
    logprobs = [{**entry, "top_logprobs": [entry, other]}]
    assert_alike(answer.json(), {**said("I"), **end, "logprobs": logprobs, **METRICS})


async def test_show_has_the_recorded_keys(node: FakeNode, model: str, api: AsgiClient) -> None:
    shown = (await api.post("/api/show", {"model": model})).json()

    assert {"modelfile", "parameters", "template", "details", "model_info"} <= shown.keys()
    assert {"capabilities", "modified_at"} <= shown.keys()
    assert_alike(shown["details"], DETAILS)
    assert shown["capabilities"] == ["completion"]


async def test_delete_takes_the_copy_away(node: FakeNode, model: str, api: AsgiClient) -> None:
    await api.post("/api/copy", {"source": model, "destination": "copy1"})
    gone = await api.request("DELETE", "/api/delete", data={"model": "copy1"})

    assert (gone.status, gone.content_type, gone.body) == (200, "", b"")
    assert (await api.post("/api/show", {"model": "copy1"})).status == 404


async def test_show_of_a_created_model_has_what_was_given(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post("/api/create", recorded_native.S2)
    shown = (await api.post("/api/show", {"model": "s2"})).json()

    assert shown["system"] == "You are terse."
    assert sorted(line.split() for line in shown["parameters"].splitlines()) == [
        ["num_ctx", "2048"],
        ["stop", '"<|im_end|>"'],
        ["temperature", "0"],
    ]
    assert "\nSYSTEM You are terse.\n" in shown["modelfile"]
    assert "\nPARAMETER num_ctx 2048\n" in shown["modelfile"]


async def test_blob_is_uploaded_and_becomes_a_model(
    node: FakeNode, api: AsgiClient, tiny_gguf: Path
) -> None:
    content = tiny_gguf.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    stored = await api.request("POST", f"/api/blobs/{digest}", body=content)
    found = await api.request("HEAD", f"/api/blobs/{digest}")
    made = await api.post("/api/create", {"model": "tiny", "files": {"tiny.gguf": digest}})
    statuses = [line["status"] for line in made.lines()]

    assert (stored.status, stored.content_type, stored.body) == (201, "", b"")
    assert (found.status, found.content_type) == (200, "")
    assert made.content_type == NDJSON
    assert statuses[:2] == ["parsing GGUF", "verifying conversion"]
    assert statuses[2].startswith(("creating new layer sha256:", "using existing layer sha256:"))
    assert statuses[-2:] == ["writing manifest", "success"]


async def test_ps_after_load_has_the_recorded_shape(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post("/api/generate", {"model": model})

    assert_alike(
        (await api.get("/api/ps")).json(),
        {
            "models": [
                {
                    "name": model,
                    "model": model,
                    "size": NUMBER,
                    "digest": TEXT,
                    "details": DETAILS,
                    "expires_at": TIME,
                    "size_vram": 0,
                    "context_length": 4096,
                }
            ]
        },
    )
