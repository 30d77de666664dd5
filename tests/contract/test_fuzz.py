"""Mutated bodies at every route that takes one: no 5xx, always an error in its dialect's shape.

The seed is fixed, so that what fails once fails again. The long run is with the slow tests.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from models_app.models import User
from tests.conftest import MakeModel
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import Answer, AsgiClient

SHORT_ROUNDS: Final = 25
LONG_ROUNDS: Final = 150
HELLO: Final = [{"role": "user", "content": "Hello", "images": [], "tool_calls": []}]
CALL: Final = {"function": {"name": "f", "arguments": {"x": 1}}}
ABLE: Final = (
    "{{ if .Suffix }}{{ .Prompt }}|{{ .Suffix }}{{ else }}"
    "{{ range .Tools }}{{ json . }}{{ end }}{{ range .Messages }}{{ .Role }}: {{ .Content }}"
    "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ range .ToolCalls }}<call>{{ json .Function }}{{ end }}\n{{ end }}{{ end }}"
)
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"type": "object", "properties": {"x": {"type": "number"}}},
    },
}
COMMON: Final = {
    "model": "able:latest",
    "stream": False,
    "options": {"num_predict": 3, "temperature": 0.5, "stop": ["x"], "num_ctx": 512, "seed": 1},
    "keep_alive": "5m",
}
NATIVE: Final = {
    **COMMON,
    "format": {"type": "object", "properties": {"a": {"type": "string"}}},
    "think": False,
    "truncate": True,
    "shift": False,
    "logprobs": True,
    "top_logprobs": 2,
    "_debug_render_only": False,
}
# A good body for every route: what is thrown at it are bodies not quite like this.
BODIES: Final[dict[str, Any]] = {
    "api/generate": {
        **NATIVE,
        "prompt": "Hello",
        "suffix": "",
        "system": "s",
        "template": "{{ .Prompt }}",
        "context": [1, 2],
        "raw": False,
        "images": [],
    },
    "api/chat": {
        **NATIVE,
        "messages": [{"role": "assistant", "content": "", "tool_calls": [CALL]}, *HELLO],
        "tools": [TOOL],
    },
    "api/embed": {**COMMON, "input": ["a", "b"], "truncate": True, "dimensions": 3},
    "api/embeddings": {**COMMON, "prompt": "a"},
    "api/show": {"model": "able:latest", "verbose": True, "system": "s", "options": {"seed": 1}},
    "api/create": {
        "model": "mine",
        "from": "able:latest",
        "stream": False,
        "system": "s",
        "template": "{{ .Prompt }}",
        "license": ["a", "b"],
        "parameters": {"temperature": 0.5, "stop": ["x"]},
        "messages": [{"role": "user", "content": "x"}],
        "quantize": "",
        "modelfile": 'FROM able\nSYSTEM """\nx"""',
        "info": {"base_name": "x"},
    },
    "api/copy": {"source": "able:latest", "destination": "mine"},
    "api/delete": {"model": "mine"},
    "v1/chat/completions": {
        "model": "able:latest",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "stream": False,
        "stream_options": {"include_usage": True},
        "max_tokens": 3,
        "stop": ["x"],
        "temperature": 1,
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        "tools": [TOOL],
        "reasoning_effort": "none",
        "logit_bias": {"1": 2},
        "n": 2,
        "logprobs": True,
    },
    "v1/embeddings": {
        "model": "able:latest",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 3,
    },
}
# Bytes, not JSON, under a digest: tests/registry/api/test_blobs.py. Pages take forms.
NOT_JSON: Final = frozenset({"api/blobs/<str:digest>"})
DEEP: Final = "[" * 300 + "]" * 300
STRANGE: Final[list[Any]] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    -0.0,
    2**31,
    2**63,
    10**30,
    1e308,
    5e-324,
    "",
    " ",
    "x",
    "\x00",
    "\ud800",
    "\ufffe\U0001f600",
    "x" * 5_000,
    "-1",
    "1h30m",
    "AAAA",
    "data:image/png;base64,AAAA",
    "../../etc/passwd",
    "bob/secret:latest",
    "{{ range . }}",
    "sha256:" + "0" * 64,
    [],
    {},
    [None],
    [[1, 2], ["x"]],
    {"": None},
    {"type": {"type": []}},
    {"$ref": "#"},
    json.loads(DEEP),
]
MAX_PLACES_DEPTH: Final = 8


def _routes(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, prefix + str(pattern.pattern))
        elif isinstance(pattern, URLPattern):
            view = getattr(pattern.callback, "cls", None)
            for method in {"post", "delete"} & set(getattr(view, "http_method_names", ())):
                yield method.upper(), prefix + str(pattern.pattern)


def _strange(chance: random.Random) -> Any:
    return json.loads(json.dumps(chance.choice(STRANGE)))


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield every container with each of its keys."""
    items: Any = ()
    if depth > MAX_PLACES_DEPTH:
        return
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield value, key
        yield from _places(inner, depth + 1)


def _replace(chance: random.Random, body: Any) -> None:
    container, key = chance.choice(list(_places(body)))
    container[key] = _strange(chance)


def _remove(chance: random.Random, body: Any) -> None:
    container, key = chance.choice(list(_places(body)))
    del container[key]


def _wrap(chance: random.Random, body: Any) -> None:
    container, key = chance.choice(list(_places(body)))
    container[key] = chance.choice([[container[key]], {"x": container[key]}])


def _swap(chance: random.Random, body: Any) -> None:
    places = list(_places(body))
    container, key = chance.choice(places)
    other, other_key = chance.choice(places)
    container[key] = json.loads(json.dumps(other[other_key]))


def _respell(chance: random.Random, body: Any) -> None:
    key = chance.choice(list(body) or ["x"])
    body[chance.choice([key.upper(), key.title(), key + "x"])] = _strange(chance)


MUTATIONS: Final[list[Callable[[random.Random, Any], None]]] = [
    _replace,
    _replace,
    _remove,
    _wrap,
    _swap,
    _respell,
]


def _cut(chance: random.Random, text: bytes) -> bytes:
    return text[: chance.randrange(len(text) + 1)]


def _change_byte(chance: random.Random, text: bytes) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]


def _repeat_part(chance: random.Random, text: bytes) -> bytes:
    start, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
    return text[:end] + text[start:end] + text[end:]


def _surround(chance: random.Random, text: bytes) -> bytes:
    rest = chance.choice([b"", b"{", b"\xff", b"\x00", b"\xef\xbb\xbf", b"null", b"[" * 2_000])
    return chance.choice([rest + text, text + rest, rest])


DAMAGES: Final[list[Callable[[random.Random, bytes], bytes]]] = [
    _cut,
    _change_byte,
    _repeat_part,
    _surround,
]


def mutated(chance: random.Random, good: Any) -> bytes:
    """Return a body that has something of a good one."""
    body = json.loads(json.dumps(good))
    for _ in range(chance.choice([0, 1, 1, 1, 2, 4])):
        if body:
            chance.choice(MUTATIONS)(chance, body)
    text = json.dumps(body, allow_nan=True).encode()
    return chance.choice(DAMAGES)(chance, text) if chance.random() < 1 / 3 else text


def assert_told(path: str, answer: Answer) -> None:
    assert answer.status < 500, answer.text
    if answer.status >= 400:
        error = answer.json()["error"]
        assert answer.content_type.startswith("application/json")
        if path.startswith("v1/"):
            assert list(error) == ["message", "type", "param", "code"]
            error = error["message"]
        assert isinstance(error, str)
        assert error
    elif answer.content_type == "application/x-ndjson":
        last = answer.lines()[-1]
        assert last.get("done") is True or last.get("status") == "success" or last["error"]


async def throw(api: AsgiClient, method: str, path: str, *, rounds: int) -> None:
    chance = random.Random(f"{method} {path}")  # noqa: S311 - a seed, no secret
    for number in range(rounds):
        body = mutated(chance, BODIES[path])
        answer = await api.request(method, f"/{path}", body=body)
        try:
            assert_told(path, answer)
        except Exception as error:
            error.add_note(f"round {number}: {body!r}")
            raise


ROUTES: Final = sorted(_routes(get_resolver().url_patterns))
ASKED: Final = [(method, path) for method, path in ROUTES if path in BODIES]


def test_every_route_that_takes_json_is_in_the_run() -> None:
    assert {path for _, path in ROUTES} - NOT_JSON == set(BODIES)


@pytest.fixture
def target(node: FakeNode, bobs_model: str, alice: User, make_model: MakeModel) -> FakeNode:
    """A node, a model that can do everything, one that Alice may delete, one she may not see."""
    node.default = Script()
    make_model("able", template=ABLE)
    make_model("alice/mine", alice)
    return node


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_good_body_is_taken(
    target: FakeNode, api: AsgiClient, method: str, path: str
) -> None:
    assert (await api.request(method, f"/{path}", data=BODIES[path])).status == 200


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_no_body_is_the_servers_fault(
    target: FakeNode, api: AsgiClient, method: str, path: str
) -> None:
    await throw(api, method, path, rounds=SHORT_ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_no_body_is_the_servers_fault_for_long(
    target: FakeNode, api: AsgiClient, method: str, path: str
) -> None:
    await throw(api, method, path, rounds=LONG_ROUNDS)
