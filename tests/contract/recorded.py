"""How a recorded exchange is written down: the request, and of its answer what must be alike.

Where a value depends on model, clock or chance, only its key and kind are compared. Knows no
route.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

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
    told: Mapping[str, str] = field(default_factory=dict)  # headers of the answer
    body: Any = b""


def said(text: str) -> dict[str, Any]:
    return {**HEAD, "message": {"role": "assistant", "content": text}}
