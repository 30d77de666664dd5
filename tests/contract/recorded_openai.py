"""What a real Ollama 0.33 answered on `/v1`, and what is told here beyond it.

That is what OpenAI's own answers have: a null refusal, details of the usage, and the code and field
of a model that is not there. Not in here: /v1/completions.
"""

from typing import Any, Final

from tests.contract.recorded import (
    HELLO,
    JSON,
    NUMBER,
    SSE,
    TEXT,
    Exchange,
)


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
    is_missing = kind == "not_found_error"
    found = ("model", "model_not_found") if is_missing else (None, None)
    return {"error": {"message": message, "type": kind, "param": found[0], "code": found[1]}}


USAGE: Final = {
    "prompt_tokens": 10,
    "completion_tokens": 3,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
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
                    "message": {"role": "assistant", "content": "Hello.", "refusal": None},
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
        name="v1 embeddings missing model",
        request=("POST", "/v1/embeddings"),
        data={"model": "nope", "input": "x"},
        status=404,
        content_type=JSON,
        body=openai_error('model "nope" not found, try pulling it first', "not_found_error"),
    ),
]
