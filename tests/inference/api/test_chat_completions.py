"""`POST /v1/chat/completions` (contract 3.1 to 3.4, 2.7)."""

import re
import time
from typing import Any

import pytest

from inference.messages import DoneReason, FailureCode, Generate, Load
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient

URL = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
HEAD_KEYS = ["id", "object", "created", "model", "system_fingerprint", "choices"]
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 3,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
ID = re.compile(r"chatcmpl-[0-9a-f]{16,}")


async def test_whole_answer_has_the_contracts_shape(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post(URL, {"model": model, "messages": HELLO})
    body = answer.json()

    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert answer.body.endswith(b"}\n")
    assert list(body) == [*HEAD_KEYS, "usage"]
    assert ID.fullmatch(body["id"])
    assert abs(body["created"] - time.time()) < 60
    assert (body["object"], body["model"]) == ("chat.completion", model)
    assert body["system_fingerprint"] == "fp_ollama"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello.", "refusal": None},
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == USAGE


async def test_two_answers_have_different_ids(node: FakeNode, model: str, api: AsgiClient) -> None:
    ids = {
        (await api.post(URL, {"model": model, "messages": HELLO})).json()["id"] for _ in range(5)
    }

    assert len(ids) == 5


async def test_stream_has_role_once_then_finish_then_done(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post(URL, {"model": model, "messages": HELLO, "stream": True})
    *chunks, done = answer.events()

    assert answer.status == 200
    assert answer.content_type == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert done == "[DONE]"
    assert [list(chunk) for chunk in chunks] == [HEAD_KEYS] * 3
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "."}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    ]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1


async def test_usage_chunk_comes_last_where_it_is_wished(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = {
        "model": model,
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    *chunks, usage, _ = (await api.post(URL, body)).events()

    assert list(usage) == [*HEAD_KEYS, "usage"]
    assert usage["choices"] == []
    assert usage["usage"] == USAGE
    assert not any("usage" in chunk for chunk in chunks)


async def test_answer_without_text_has_a_role_chunk_all_the_same(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=()))
    body = {"model": model, "messages": HELLO, "stream": True}
    first, finish, _ = (await api.post(URL, body)).events()

    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert finish["choices"][0]["delta"] == {}


async def test_last_piece_has_a_chunk_before_the_finish(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), last_text="b", reason=DoneReason.LENGTH))
    body = {"model": model, "messages": HELLO, "stream": True}
    chunks = (await api.post(URL, body)).events()[:-1]

    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["a", "b", None]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_sampling_fields_reach_the_engine(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = {
        "model": model,
        "messages": [{"role": "developer", "content": "Be brief."}, *HELLO],
        "max_completion_tokens": 5,
        "max_tokens": 50,
        "seed": 7,
        "stop": "END",
        "frequency_penalty": 0.5,
        "presence_penalty": 0.25,
        "options": {"num_ctx": 1024, "top_k": 3},
        "keep_alive": "1m",
    }
    await api.post(URL, body)
    request = await node.wait_for(Generate)
    prompt: Any = request.prompt
    sampling = request.sampling

    assert [message.role for message in prompt.messages] == ["system", "user"]
    assert (sampling.num_predict, sampling.seed, sampling.stop) == (5, 7, ("END",))
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 3)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.5, 0.25)
    assert (request.runner.num_ctx, request.keep_alive_s) == (1024, 60)


@pytest.mark.parametrize("stream", [False, True])
async def test_empty_list_of_parts_is_a_load(
    node: FakeNode, model: str, api: AsgiClient, stream: bool
) -> None:
    messages = [{"role": "user", "content": []}]
    answer = await api.post(URL, {"model": model, "messages": messages, "stream": stream})
    last = answer.events()[-2] if stream else answer.json()

    assert last["choices"][0]["finish_reason"] == "load"
    assert len(node.got(Load)) == 1


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (
            {"model": "smollm2:135m", "messages": []},
            400,
            "[] is too short - 'messages'",
        ),
        ({"messages": HELLO}, 400, "model is required"),
        ({"model": "a b", "messages": HELLO}, 400, "invalid model name"),
        ({"model": "nope", "messages": HELLO}, 404, "model 'nope' not found"),
        (
            {"model": 3, "messages": HELLO},
            400,
            "json: cannot unmarshal number into Go struct field ChatCompletionRequest.model"
            " of type string",
        ),
        (
            {"model": "smollm2:135m", "messages": HELLO, "n": 17},
            400,
            "n must be between 1 and 16",
        ),
    ],
)
async def test_refusals_have_openais_shape(
    node: FakeNode, model: str, api: AsgiClient, body: Any, status: int, message: str
) -> None:
    kind = {400: "invalid_request_error", 404: "not_found_error"}[status]
    answer = await api.post(URL, body)

    assert answer.status == status
    assert answer.content_type.startswith("application/json")
    error = answer.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["message"], error["type"]) == (message, kind)


@pytest.mark.parametrize("stream", [False, True])
async def test_early_failure_keeps_its_status(
    node: FakeNode, model: str, api: AsgiClient, stream: bool
) -> None:
    node.scripts.append(Script(pieces=(), failure=FailureCode.QUEUE_FULL))
    answer = await api.post(URL, {"model": model, "messages": HELLO, "stream": stream})

    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["type"] == "api_error"


async def test_late_failure_is_an_error_event_without_done(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(failure=FailureCode.RUNNER_CRASHED, failure_message="gone"))
    events = (await api.post(URL, {"model": model, "messages": HELLO, "stream": True})).events()

    assert events[-1] == {
        "error": {"message": "gone", "type": "api_error", "param": None, "code": "server_error"}
    }
    assert "[DONE]" not in events
