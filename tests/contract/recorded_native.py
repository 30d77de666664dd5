"""What a real Ollama 0.33 answered on `/` and `/api`."""

from typing import Final

from tests.contract.recorded import (
    DETAILS,
    HEAD,
    HELLO,
    HI,
    JSON,
    METRICS,
    NDJSON,
    NUMBER,
    NUMBERS,
    PLAIN,
    TEXT,
    TIME,
    TOOL,
    Exchange,
    said,
)

S2: Final = {
    "model": "s2",
    "from": "smollm2:135m",
    "system": "You are terse.",
    "parameters": {"temperature": 0, "num_ctx": 2048, "stop": ["<|im_end|>"]},
    "stream": False,
}

EXCHANGES: Final = [
    Exchange(
        name="GET /",
        request=("GET", "/"),
        content_type="text/plain; charset=utf-8",
        body=b"Ollama is running",
    ),
    Exchange(name="HEAD /", request=("HEAD", "/"), content_type="text/plain; charset=utf-8"),
    Exchange(name="version", request=("GET", "/api/version"), body={"version": TEXT}),
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
        name="embed missing model",
        request=("POST", "/api/embed"),
        data={"model": "nope", "input": "x"},
        status=404,
        body={"error": 'model "nope" not found, try pulling it first'},
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
        told={"allow": "POST"},
        body=b"405 method not allowed",
    ),
    Exchange(
        name="HEAD blob, absent",
        request=("HEAD", f"/api/blobs/sha256:{'0' * 64}"),
        status=404,
    ),
    Exchange(
        name="copy",
        request=("POST", "/api/copy"),
        data={"source": "smollm2:135m", "destination": "copy1"},
        content_type="",
    ),
    Exchange(
        name="delete missing",
        request=("DELETE", "/api/delete"),
        data={"model": "copy1"},
        status=404,
        body={"error": "model 'copy1' not found"},
    ),
    Exchange(
        name="create from existing with template/system/params",
        request=("POST", "/api/create"),
        data=S2,
        content_type=JSON,
        body={"status": "success"},
    ),
    Exchange(
        name="OPTIONS CORS",
        request=("OPTIONS", "/api/chat"),
        headers={"origin": "http://localhost:3000", "access-control-request-method": "POST"},
        status=204,
        content_type="",
        told={
            "access-control-allow-origin": "http://localhost:3000",
            "access-control-allow-methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
            "access-control-max-age": "43200",
        },
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
