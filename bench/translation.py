"""What a dialect costs: body bytes to the internal request, a piece of an answer to its bytes.

No server and no model: the same functions that the views call, in one process that does nothing
else, on a conversation of 20 messages with tools. Knows no socket and no engine.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import django
import msgspec

from bench import figures, report
from bench.servers import Shape, site_environment
from bench.workplace import PLACE, ROOT
from ollamasite import data_dir

if TYPE_CHECKING:
    from inference.messages import Token

MAX_REQUEST_MS: Final = 2.0
MAX_CHUNK_US: Final = 50.0
ROUNDS: Final = 500
CHUNKS: Final = 20_000
_MESSAGES: Final = 20
_TOOLS: Final = 5
_MODEL: Final = "smollm2:135m"
_WORDS: Final = "The weather in Oslo is mild for the season, with some rain in the evening. " * 8


Writer = Callable[["Token"], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One dialect: how it reads a body, and what begins an answer and writes its pieces."""

    name: str
    body: bytes
    read: Callable[[bytes], object]
    writer: Callable[[], Writer]


class Cost(msgspec.Struct, kw_only=True):
    """What one dialect takes: p50 and p99, in seconds."""

    name: str
    body_bytes: int
    request_s: tuple[float, float]
    chunk_s: tuple[float, float]


def measure() -> list[Cost]:
    """Measure in a process of its own. Raises CalledProcessError."""
    place = PLACE / "site-translation"
    data_dir.prepare(place)
    environment = site_environment(place, Shape(slots=1, window_tokens=2048))
    report.log("translation: a request and a chunk of every dialect")
    done = subprocess.run(
        [sys.executable, "-m", "bench.translation"],
        env={"DJANGO_SETTINGS_MODULE": "ollamasite.settings", **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=list[Cost])


def measure_here(*, rounds: int = ROUNDS, chunks: int = CHUNKS) -> list[Cost]:
    """Measure in this process, in which Django is ready."""
    return [_cost(case, rounds, chunks) for case in cases()]


def to_markdown(found: Sequence[Cost]) -> str:
    """Return the table."""
    rows = [
        [
            cost.name,
            f"{cost.body_bytes / 1000:.1f}",
            *(f"{seconds * 1e3:.2f}" for seconds in cost.request_s),
            *(f"{seconds * 1e6:.1f}" for seconds in cost.chunk_s),
        ]
        for cost in found
    ]
    head = ("dialect", "body, kB", "request p50, ms", "p99", "chunk p50, µs", "p99")
    request_ms = max(cost.request_s[0] for cost in found) * 1e3
    chunk_us = max(cost.chunk_s[0] for cost in found) * 1e6
    return (
        f"{report.table(head, rows)}\n\nThe dearest dialect, p50: a request "
        f"{report.verdict(request_ms, at_most=MAX_REQUEST_MS)} ms, a chunk "
        f"{report.verdict(chunk_us, at_most=MAX_CHUNK_US)} µs."
    )


def _cost(case: Case, rounds: int, chunks: int) -> Cost:
    # Only behind django.setup() may this be imported.
    from inference.messages import Token

    case.read(case.body)  # what is made once for a type is not a request's cost
    write = case.writer()
    token = Token(request_id="x", text=" word")
    write(token)
    return Cost(
        name=case.name,
        body_bytes=len(case.body),
        request_s=_p50_p99(lambda: case.read(case.body), rounds),
        chunk_s=_p50_p99(lambda: write(token), chunks),
    )


def _p50_p99(act: Callable[[], object], times: int) -> tuple[float, float]:
    taken_s = []
    for _ in range(times):
        begin_ns = time.perf_counter_ns()
        act()
        taken_s.append((time.perf_counter_ns() - begin_ns) / 1e9)
    return figures.median(taken_s), figures.percentile(taken_s, 99)


# ------------------------------------------------------------------ dialects


def cases() -> list[Case]:
    """Return every dialect that generates. Django must be ready."""
    return [*_native_cases(), *_openai_cases(), *_anthropic_cases()]


def _native_cases() -> list[Case]:
    from inference.api import native_writers, schemas

    return [
        Case(
            name="/api/generate",
            body=_json({"prompt": _WORDS * _MESSAGES, "system": _WORDS, "options": _OPTIONS}),
            read=_reader(schemas.GenerateBody),
            writer=lambda: native_writers.GenerateWriter(_MODEL).piece,
        ),
        Case(
            name="/api/chat",
            body=_json({"messages": _native_messages(), "tools": _TOOL_LIST, "options": _OPTIONS}),
            read=_reader(schemas.ChatBody),
            writer=lambda: native_writers.ChatWriter(_MODEL).piece,
        ),
    ]


def _openai_cases() -> list[Case]:
    from inference.api.openai import chat, chat_schemas, completions, completions_schemas

    read_completion = _decoder(completions_schemas.CompletionBody)
    prompt = _json({"prompt": _WORDS * _MESSAGES, "temperature": 0.5, "logit_bias": {"7": -1}})

    def completion_writer() -> Writer:
        writer = completions.CompletionWriter(
            _MODEL, read_completion(prompt).to_request(), includes_usage=True
        )
        return partial(writer.event, 0)

    return [
        Case(
            name="/v1/chat/completions",
            body=_json({"messages": _openai_messages(), "tools": _TOOL_LIST, "temperature": 0.5}),
            read=_reader(chat_schemas.ChatCompletionBody),
            writer=lambda: chat.ChatCompletionWriter(_MODEL, includes_usage=True).piece,
        ),
        Case(
            name="/v1/completions",
            body=prompt,
            read=lambda body: read_completion(body).to_request().requests[0],
            writer=completion_writer,
        ),
        _responses_case(),
    ]


def _responses_case() -> Case:
    from inference.api.responses import items, messages, schemas
    from inference.api.responses.writer import ResponseWriter
    from inference.responses import ItemIds

    decode = _decoder(schemas.ResponseBody)
    asked = _json({"input": _items(), "tools": [_flat(tool) for tool in _TOOL_LIST]})

    def read(body: bytes) -> object:
        decoded = decode(body)
        decoded.check()
        asked_items = items.read_input(decoded.input, ItemIds(), {})
        return decoded.to_request(messages.to_messages(decoded.instructions, asked_items, {}))

    def writer() -> Writer:
        ids = ItemIds()
        frame = decode(asked).to_response(ids.response_id, 0, is_kept=True)
        made = ResponseWriter(frame, ids, includes_encrypted=False)
        made.begin(None)
        return made.piece

    return Case(name="/v1/responses", body=asked, read=read, writer=writer)


def _anthropic_cases() -> list[Case]:
    from inference.api.anthropic import schemas
    from inference.api.anthropic import writer as anthropic_writer

    def writer() -> Writer:
        made = anthropic_writer.MessageWriter(_MODEL)
        made.begin(None)
        return made.piece

    tools = [_anthropic_tool(tool) for tool in _TOOL_LIST]
    return [
        Case(
            name="/v1/messages",
            body=_json({"messages": _anthropic_messages(), "tools": tools, "max_tokens": 100}),
            read=_reader(schemas.MessagesBody),
            writer=writer,
        )
    ]


def _decoder(cls: type[Any]) -> Callable[[bytes], Any]:
    """Return what reads the body of a view."""
    from ollamasite.bodies import decode
    from ollamasite.http import read_json

    return lambda body: decode(read_json(body, empty_message="EOF"), cls, "Request")


def _reader(cls: type[Any]) -> Callable[[bytes], object]:
    """Return what a view does with a body before it asks for a generation."""
    decode = _decoder(cls)
    return lambda body: decode(body).to_request()


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps({"model": _MODEL, "stream": True, **body}).encode()


_OPTIONS: Final = {"temperature": 0.5, "seed": 1, "num_predict": 100, "stop": ["END"]}
_PARAMETERS: Final = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "The city's name"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["city"],
}
_TOOL_LIST: Final = [
    {
        "type": "function",
        "function": {
            "name": f"get_weather_{number}",
            "description": "Tells the weather of a city",
            "parameters": _PARAMETERS,
        },
    }
    for number in range(_TOOLS)
]
_ARGUMENTS: Final = {"city": "Oslo", "unit": "celsius", "days": [1, 2, 3]}


def _turns(call: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return question, call, result and answer, as often as they fit."""
    turn: list[dict[str, Any]] = [
        {"role": "user", "content": _WORDS},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": _WORDS, "tool_call_id": "call_1"},
        {"role": "assistant", "content": _WORDS},
    ]
    return turn * (_MESSAGES // len(turn))


def _native_messages() -> list[dict[str, Any]]:
    function = {"name": "get_weather_1", "arguments": _ARGUMENTS}
    return _turns({"id": "call_1", "function": function})


def _openai_messages() -> list[dict[str, Any]]:
    function = {"name": "get_weather_1", "arguments": json.dumps(_ARGUMENTS)}
    return _turns({"id": "call_1", "type": "function", "function": function})


def _items() -> list[dict[str, Any]]:
    """Return the same conversation as items of `/v1/responses`."""
    call = {"call_id": "call_1", "name": "get_weather_1", "arguments": json.dumps(_ARGUMENTS)}
    turn: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "input_text", "text": _WORDS}]},
        {"type": "function_call", **call},
        {"type": "function_call_output", "call_id": "call_1", "output": _WORDS},
        {"role": "assistant", "content": [{"type": "output_text", "text": _WORDS}]},
    ]
    return turn * (_MESSAGES // len(turn))


def _anthropic_messages() -> list[dict[str, Any]]:
    """Return the same conversation as Anthropic has it."""
    call = {"type": "tool_use", "id": "call_1", "name": "get_weather_1", "input": _ARGUMENTS}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": _WORDS}
    turn: list[dict[str, Any]] = [
        {"role": "user", "content": _WORDS},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": [{"type": "text", "text": _WORDS}]},
    ]
    return turn * (_MESSAGES // len(turn))


def _flat(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", **tool["function"]}


def _anthropic_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(tool["function"])
    return {"input_schema": function.pop("parameters"), **function}


def main() -> None:
    """Write what was measured as JSON. The settings' environment is there."""
    django.setup()
    sys.stdout.write(msgspec.json.encode(measure_here()).decode())


if __name__ == "__main__":
    main()
