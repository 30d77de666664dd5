"""Requests that were sent to a real Ollama 0.33, and what it answered: status, type, keys, texts.

Where a value depends on model, clock or chance, only its key and kind are compared. What belongs
to later steps (embeddings, create, blobs, copy, delete, CORS) is not in here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from inference.messages import DoneReason, Token, TokenLogprob, TopToken
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import Answer, AsgiClient

JSON_UTF8: Final = "application/json; charset=utf-8"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
SSE: Final = "text/event-stream"
PLAIN: Final = "text/plain"

# Kinds: a value that is not compared, but must be there.
TIME: Final = "<time>"
NUMBER: Final = "<number>"
TEXT: Final = "<text>"
NUMBERS: Final = "<numbers>"

METRICS: Final = {
    "total_duration": NUMBER,
    "load_duration": NUMBER,
    "prompt_eval_count": NUMBER,
    "prompt_eval_duration": NUMBER,
    "eval_count": NUMBER,
    "eval_duration": NUMBER,
}
DETAILS: Final = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": TEXT,
    "quantization_level": TEXT,
}
HEAD: Final = {"model": "smollm2:135m", "created_at": TIME}
HI: Final = [{"role": "user", "content": "Hi"}]
HELLO: Final = [{"role": "user", "content": "Hello"}]
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {}},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its recorded answer; `body`: bytes, an object, or the objects of a stream."""

    name: str
    request: tuple[str, str]
    data: Any = None
    sent: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    content_type: str = JSON_UTF8
    body: Any = b""


def said(text: str) -> dict[str, Any]:
    return {**HEAD, "message": {"role": "assistant", "content": text}}


def chunk(**last: Any) -> dict[str, Any]:
    return {
        "id": TEXT,
        "object": "chat.completion.chunk",
        "created": NUMBER,
        "model": "smollm2:135m",
        "system_fingerprint": "fp_ollama",
        **last,
    }


def choice(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def openai_error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


USAGE: Final = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
V1_CHAT: Final = {
    "model": "smollm2:135m",
    "max_tokens": 5,
    "temperature": 0,
    "seed": 1,
    "messages": HELLO,
}
STREAMED_CHUNKS: Final = [
    chunk(**choice({"role": "assistant", "content": "Hello"}, None)),
    chunk(**choice({"content": "."}, None)),
    chunk(**choice({}, "stop")),
]

EXCHANGES: Final = [
    Exchange(
        name="GET /",
        request=("GET", "/"),
        content_type="text/plain; charset=utf-8",
        body=b"Ollama is running",
    ),
    Exchange(
        name="tags",
        request=("GET", "/api/tags"),
        body={
            "models": [
                {
                    "name": "smollm2:135m",
                    "model": "smollm2:135m",
                    "modified_at": TIME,
                    "size": NUMBER,
                    "digest": TEXT,
                    "details": {**DETAILS, "context_length": NUMBER, "embedding_length": NUMBER},
                    "capabilities": ["completion"],
                }
            ]
        },
    ),
    Exchange(
        name="show missing",
        request=("POST", "/api/show"),
        data={"model": "nope"},
        status=404,
        body={"error": "model 'nope:latest' not found"},
    ),
    Exchange(name="ps before load", request=("GET", "/api/ps"), body={"models": []}),
    Exchange(
        name="generate stream",
        request=("POST", "/api/generate"),
        data={
            "model": "smollm2:135m",
            "prompt": "Hello",
            "options": {"num_predict": 5, "temperature": 0, "seed": 1},
        },
        content_type=NDJSON,
        body=[
            {**HEAD, "response": "Hello", "done": False},
            {**HEAD, "response": ".", "done": False},
            {
                **HEAD,
                "response": "",
                "done": True,
                "done_reason": "stop",
                "context": NUMBERS,
                **METRICS,
            },
        ],
    ),
    Exchange(
        name="generate non-stream",
        request=("POST", "/api/generate"),
        data={"model": "smollm2:135m", "prompt": "Hello", "stream": False},
        body={
            **HEAD,
            "response": "Hello.",
            "done": True,
            "done_reason": "stop",
            "context": NUMBERS,
            **METRICS,
        },
    ),
    Exchange(
        name="generate raw non-stream",
        request=("POST", "/api/generate"),
        data={"model": "smollm2:135m", "prompt": "Once", "raw": True, "stream": False},
        body={**HEAD, "response": "Hello.", "done": True, "done_reason": "stop", **METRICS},
    ),
    Exchange(
        name="generate empty prompt (load)",
        request=("POST", "/api/generate"),
        data={"model": "smollm2:135m"},
        body={**HEAD, "response": "", "done": True, "done_reason": "load"},
    ),
    Exchange(
        name="generate format json",
        request=("POST", "/api/generate"),
        data={
            "model": "smollm2:135m",
            "prompt": "Give a JSON object",
            "format": "json",
            "stream": False,
        },
        body={
            **HEAD,
            "response": "Hello.",
            "done": True,
            "done_reason": "stop",
            "context": NUMBERS,
            **METRICS,
        },
    ),
    Exchange(
        name="generate missing model",
        request=("POST", "/api/generate"),
        data={"model": "nope", "prompt": "x"},
        status=404,
        body={"error": "model 'nope' not found"},
    ),
    Exchange(
        name="chat non-stream",
        request=("POST", "/api/chat"),
        data={"model": "smollm2:135m", "stream": False, "messages": HELLO},
        body={**said("Hello."), "done": True, "done_reason": "stop", **METRICS},
    ),
    Exchange(
        name="chat stream",
        request=("POST", "/api/chat"),
        data={
            "model": "smollm2:135m",
            "messages": [{"role": "system", "content": "Be brief."}, *HI],
            "options": {"num_predict": 5, "temperature": 0, "seed": 1},
        },
        content_type=NDJSON,
        body=[
            {**said("Hello"), "done": False},
            {**said("."), "done": False},
            {**said(""), "done": True, "done_reason": "stop", **METRICS},
        ],
    ),
    Exchange(
        name="chat with tools on a model without tools",
        request=("POST", "/api/chat"),
        data={"model": "smollm2:135m", "stream": False, "messages": HI, "tools": [TOOL]},
        status=400,
        body={"error": "registry.ollama.ai/library/smollm2:135m does not support tools"},
    ),
    Exchange(
        name="chat think on a model without thinking",
        request=("POST", "/api/chat"),
        data={"model": "smollm2:135m", "stream": False, "think": True, "messages": HI},
        status=400,
        body={"error": '"smollm2:135m" does not support thinking'},
    ),
    Exchange(
        name="chat missing model",
        request=("POST", "/api/chat"),
        data={"model": "nope", "messages": []},
        status=404,
        body={"error": "model 'nope' not found"},
    ),
    Exchange(
        name="chat no model",
        request=("POST", "/api/chat"),
        data={},
        status=400,
        body={"error": "model is required"},
    ),
    Exchange(
        name="invalid JSON body: generate",
        request=("POST", "/api/generate"),
        sent=b'{"model":',
        status=400,
        body={"error": "unexpected EOF"},
    ),
    Exchange(
        name="invalid JSON body: chat",
        request=("POST", "/api/chat"),
        sent=b"{bad",
        status=400,
        body={"error": "invalid character 'b' looking for beginning of object key string"},
    ),
    Exchange(
        name="empty body: generate",
        request=("POST", "/api/generate"),
        status=400,
        body={"error": "missing request body"},
    ),
    Exchange(
        name="wrong type: generate",
        request=("POST", "/api/generate"),
        data={"model": 3},
        status=400,
        body={
            "error": "json: cannot unmarshal number into Go struct field GenerateRequest.model"
            " of type string"
        },
    ),
    Exchange(
        name="unknown route",
        request=("GET", "/api/nope"),
        status=404,
        content_type=PLAIN,
        body=b"404 page not found",
    ),
    Exchange(
        name="wrong method",
        request=("DELETE", "/api/chat"),
        status=405,
        content_type=PLAIN,
        body=b"405 method not allowed",
    ),
    Exchange(
        name="v1 models",
        request=("GET", "/v1/models"),
        content_type=JSON,
        body={
            "object": "list",
            "data": [
                {
                    "id": "smollm2:135m",
                    "object": "model",
                    "created": NUMBER,
                    "owned_by": "library",
                }
            ],
        },
    ),
    Exchange(
        name="v1 model",
        request=("GET", "/v1/models/smollm2:135m"),
        content_type=JSON,
        body={"id": "smollm2:135m", "object": "model", "created": NUMBER, "owned_by": "library"},
    ),
    Exchange(
        name="v1 model missing",
        request=("GET", "/v1/models/nope"),
        status=404,
        content_type=JSON,
        body=openai_error("model 'nope:latest' not found", "not_found_error"),
    ),
    Exchange(
        name="v1 chat non-stream",
        request=("POST", "/v1/chat/completions"),
        data=V1_CHAT,
        content_type=JSON,
        body={
            "id": TEXT,
            "object": "chat.completion",
            "created": NUMBER,
            "model": "smollm2:135m",
            "system_fingerprint": "fp_ollama",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello."},
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        },
    ),
    Exchange(
        name="v1 chat stream + include_usage",
        request=("POST", "/v1/chat/completions"),
        data={**V1_CHAT, "stream": True, "stream_options": {"include_usage": True}},
        content_type=SSE,
        body=[*STREAMED_CHUNKS, chunk(choices=[], usage=USAGE), "[DONE]"],
    ),
    Exchange(
        name="v1 chat stream, no usage",
        request=("POST", "/v1/chat/completions"),
        data={**V1_CHAT, "stream": True},
        content_type=SSE,
        body=[*STREAMED_CHUNKS, "[DONE]"],
    ),
    Exchange(
        name="v1 chat missing model",
        request=("POST", "/v1/chat/completions"),
        data={"model": "nope", "messages": HELLO},
        status=404,
        content_type=JSON,
        body=openai_error("model 'nope' not found", "not_found_error"),
    ),
    Exchange(
        name="v1 chat invalid JSON",
        request=("POST", "/v1/chat/completions"),
        sent=b'{"model":',
        status=400,
        body=openai_error("unexpected EOF", "invalid_request_error"),
    ),
    Exchange(
        name="v1 chat empty messages",
        request=("POST", "/v1/chat/completions"),
        data={"model": "smollm2:135m", "messages": []},
        status=400,
        body=openai_error("[] is too short - 'messages'", "invalid_request_error"),
    ),
    Exchange(
        name="bad Host",
        request=("GET", "/api/tags"),
        headers={"host": "evil.example"},
        status=403,
        content_type="",
        body=b"",
    ),
    Exchange(
        name="unload",
        request=("POST", "/api/generate"),
        data={"model": "smollm2:135m", "keep_alive": 0},
        body={**HEAD, "response": "", "done": True, "done_reason": "unload"},
    ),
]


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
