"""docs/compatibility.md is true: each field it names is sent or found, and it names each.

Values that are sent are examples; what they do is tested where the endpoint is.
"""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from asgiref.sync import sync_to_async
from msgspec import structs

from inference.messages import Token, TokenLogprob, ToolCall
from models_app.models import User
from registry import manifests
from tests.conftest import MakeModel
from tests.contract.conftest import ABLE_TEMPLATE
from tests.fakes.engine import USAGE, FakeNode, Script
from tests.fakes.http import Answer, AsgiClient
from tests.gguf_files import write_tiny_model
from tests.model_layers import add_layer
from tests.vision_files import write_adapter, write_image, write_projector

_DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
_HEADING: Final = re.compile(r"### `(GET|POST|DELETE) (/api/\w+)`")
_FIELD: Final = re.compile(r"`([\w.]+)`")
_SERVED: Final = frozenset({"✓", "≈"})
# What is in them is the model's own, or has a test of its own.
_OPAQUE: Final = frozenset({"model_info", "projector_info", "_debug_info", "logprobs", "arguments"})

WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL: Final = {"id": "call_1", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
PICTURE: Final = base64.b64encode(write_image("PNG")).decode()
USER: Final = {"role": "user", "content": "Hello"}

_COMMON: Final[dict[str, Any]] = {
    "stream": False,
    "format": {"type": "object"},
    "keep_alive": "5m",
    "options": {"temperature": 0, "num_ctx": 2048},
    "think": True,
    "truncate": False,
    "shift": False,
    "logprobs": True,
    "top_logprobs": 3,
    "_debug_render_only": True,
}
# What is sent for each field; MODEL, FILE and ADAPTER stand for what the test has made.
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "POST /api/generate": {
        **_COMMON,
        "model": "MODEL",
        "name": "MODEL",
        "prompt": "Hello",
        "suffix": "end",
        "system": "Be.",
        "template": "{{ .Prompt }}",
        "context": [1, 2, 3],
        "raw": True,
        "images": [PICTURE],
    },
    "POST /api/chat": {
        **_COMMON,
        "model": "MODEL",
        "name": "MODEL",
        "messages": [USER],
        "messages.role": [{"role": "developer", "content": "Be."}, USER],
        "messages.content": [USER],
        "messages.thinking": [USER, {"role": "assistant", "thinking": "Hm", "content": "Hi"}, USER],
        "messages.images": [{**USER, "images": [PICTURE]}],
        "messages.tool_calls": [USER, {"role": "assistant", "tool_calls": [CALL]}, USER],
        "messages.tool_name": [USER, {"role": "tool", "content": "x", "tool_name": "get_weather"}],
        "messages.tool_call_id": [USER, {"role": "tool", "content": "x", "tool_call_id": "call_1"}],
        "tools": [WEATHER],
    },
    "POST /api/embed": {
        "model": "MODEL",
        "name": "MODEL",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 2,
        "options": {"num_ctx": 512},
        "keep_alive": 10,
    },
    "POST /api/embeddings": {
        "model": "MODEL",
        "name": "MODEL",
        "prompt": "a",
        "options": {"num_ctx": 512},
        "keep_alive": 10,
    },
    "POST /api/show": {
        "model": "MODEL",
        "name": "MODEL",
        "verbose": True,
        "system": "Be.",
        "template": "{{ .Prompt }}",
        "options": {"temperature": 0.5},
    },
    "POST /api/create": {
        "model": "made",
        "name": "made",
        "stream": False,
        "from": "MODEL",
        "files": {"model.gguf": "FILE"},
        "adapters": {"lora.gguf": "ADAPTER"},
        "template": "{{ .Prompt }}",
        "system": "Be.",
        "license": ["One", "Two"],
        "parameters": {"temperature": 0.5, "stop": ["a"]},
        "messages": [USER],
        "quantize": "F16",
        "quantization": "F16",
        "renderer": "qwen3-coder",
        "parser": "qwen3-coder",
        "requires": "0.14.0",
        "info": {"model_family": "llama"},
        "modelfile": "FROM MODEL\nSYSTEM Be.",
    },
    "POST /api/copy": {"source": "MODEL", "destination": "copied"},
    "DELETE /api/delete": {"model": "alice/extra", "name": "alice/extra"},
}

# What every request of an endpoint has besides.
BASES: Final[dict[str, dict[str, Any]]] = {
    "POST /api/generate": {"model": "MODEL", "prompt": "Hello", "stream": False},
    "POST /api/chat": {"model": "MODEL", "messages": [USER], "stream": False},
    "POST /api/embed": {"model": "MODEL", "input": "a"},
    "POST /api/embeddings": {"model": "MODEL", "prompt": "a"},
    "POST /api/show": {"model": "MODEL"},
    "POST /api/create": {"model": "made", "from": "MODEL", "stream": False},
    "POST /api/copy": {"source": "MODEL", "destination": "copied"},
    "DELETE /api/delete": {},
}
# A request says one of these.
_INSTEAD: Final = {"name": "model", "files": "from", "modelfile": "from"}


@dataclass(frozen=True, slots=True)
class Row:
    """One field of the document."""

    endpoint: str
    is_request: bool
    name: str
    mark: str


def _rows() -> Iterator[Row]:
    endpoint, kind = "", ""
    for line in _DOCUMENT.read_text().splitlines():
        if line.startswith("#"):
            found = _HEADING.fullmatch(line)
            endpoint = f"{found[1]} {found[2]}" if found else ""
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in {"request field", "answer field"}:
            kind = cells[0]
        elif endpoint and len(cells) > 1:
            for name in _FIELD.findall(cells[0]):
                yield Row(endpoint, kind == "request field", name, cells[1])


ROWS: Final = tuple(_rows())


@pytest.fixture
def rich_model(transactional_db: None, make_model: MakeModel, tmp_path: Path) -> str:
    """A model that has everything that a model can have."""
    name = make_model(
        "rich:1b",
        template=ABLE_TEMPLATE,
        system="Be.",
        license=("One",),
        parameters={"temperature": 0.5},
        messages=(("user", "Hi"), ("assistant", "Hello")),
        renderer="qwen3-coder",
        parser="qwen3-coder",
        requires="0.14.0",
    )
    add_layer(name, manifests.PROJECTOR, write_projector(tmp_path / "eyes.gguf").read_bytes())
    return name


class Caller:
    """Sends the requests of the tables, with what stands for MODEL, FILE and ADAPTER put in."""

    def __init__(self, api: AsgiClient, model: str, folder: Path) -> None:
        self._api = api
        self._words = {"MODEL": model}
        self._folder = folder

    async def send(self, endpoint: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send a body to an endpoint, the files that it names before it."""
        text = json.dumps(body)
        for word in ("FILE", "ADAPTER"):
            if f'"{word}"' in text:
                await self._upload(word)
        for word, value in self._words.items():
            text = text.replace(word, value)
        method, path = endpoint.split()
        content = b"" if body is None else text.encode()
        return await self._api.request(method, path, body=content)

    async def _upload(self, word: str) -> None:
        path = self._folder / word
        data = (write_tiny_model if word == "FILE" else write_adapter)(path).read_bytes()
        self._words[word] = f"sha256:{hashlib.sha256(data).hexdigest()}"
        answer = await self._api.request("POST", f"/api/blobs/{self._words[word]}", body=data)
        assert answer.status in {200, 201}, answer.text


@pytest.fixture
def caller(node: FakeNode, api: AsgiClient, rich_model: str, tmp_path: Path) -> Caller:
    """Sends as Alice, who sees the rich model."""
    return Caller(api, rich_model, tmp_path)


def test_examples_are_there_for_every_request_field_that_works() -> None:
    named = {(row.endpoint, row.name) for row in ROWS if row.is_request and row.mark in _SERVED}
    examples = {(endpoint, name) for endpoint, fields in EXAMPLES.items() for name in fields}

    assert examples == named


@pytest.mark.parametrize("endpoint", EXAMPLES)
async def test_request_fields_of_the_table_are_taken(
    caller: Caller, alice: User, make_model: MakeModel, endpoint: str
) -> None:
    refused: dict[str, str] = {}
    for name, value in EXAMPLES[endpoint].items():
        if endpoint == "DELETE /api/delete":
            await sync_to_async(make_model)("alice/extra", alice)
        body = {key: item for key, item in BASES[endpoint].items() if key != _INSTEAD.get(name)}
        body[name.partition(".")[0]] = value
        answer = await caller.send(endpoint, body)
        if answer.status != 200 or b'"error"' in answer.body:
            refused[name] = answer.text

    assert refused == {}


async def test_request_fields_that_are_not_served_are_no_failure_of_the_server(
    caller: Caller,
) -> None:
    for row in ROWS:
        if row.is_request and row.mark not in _SERVED:
            answer = await caller.send(row.endpoint, {**BASES[row.endpoint], row.name: "x"})
            assert answer.status < 500, row


_ANSWERING: Final = ("generate", "chat", "embed", "embeddings", "tags", "ps", "show", "create")


@pytest.mark.parametrize("last", _ANSWERING)
async def test_answer_has_the_fields_of_its_table_and_no_others(
    caller: Caller, node: FakeNode, last: str
) -> None:
    [endpoint] = {row.endpoint for row in ROWS if row.endpoint.endswith(f"/{last}")}
    named = {
        row.name
        for row in ROWS
        if row.endpoint == endpoint and not row.is_request and row.mark in _SERVED
    }
    seen: set[str] = set()
    for answer in [answer async for answer in _rich_answers(caller, node, endpoint)]:
        assert answer.status == 200, answer.text
        for line in answer.body.splitlines():
            seen |= set(_paths(json.loads(line)))

    assert seen == named


async def _rich_answers(caller: Caller, node: FakeNode, endpoint: str) -> AsyncIterator[Answer]:
    """Yield answers that together have everything that an endpoint can tell."""
    logprobs = (TokenLogprob(token=b"Hi", logprob=-0.5),)
    pieces = [
        Token(request_id="", thinking="Hm"),
        Token(request_id="", text="Hi", logprobs=logprobs),
    ]
    body = BASES.get(endpoint)
    if endpoint == "POST /api/chat":
        call = ToolCall(id="call_1", name="get_weather", arguments={"city": "Oslo"})
        pieces.append(Token(request_id="", tool_calls=(call,)))
        body = {**BASES[endpoint], "tools": [WEATHER]}
    if endpoint in {"POST /api/generate", "POST /api/chat"}:
        usage = structs.replace(USAGE, cached_tokens=4)
        node.scripts.append(Script(pieces=tuple(pieces), usage=usage))
        yield await caller.send(endpoint, {**(body or {}), "think": True, "logprobs": True})
        yield await caller.send(endpoint, {**BASES[endpoint], "_debug_render_only": True})
    elif endpoint == "POST /api/create":
        body = {"model": "made", "files": {"model.gguf": "FILE"}, "quantize": "F16"}
        yield await caller.send(endpoint, body)
    else:
        if endpoint == "GET /api/ps":
            await caller.send("POST /api/generate", {"model": "MODEL"})
        yield await caller.send(endpoint, body)


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all that is no object and no list of objects."""
    if path.rpartition(".")[2] in _OPAQUE:
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from _paths(item, path)
    else:
        yield path
