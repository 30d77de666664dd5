"""Mutated bodies at every route that takes one: no 5xx, always an error in its dialect's shape.

The seed is fixed, so that what fails once fails again. The long run, with the slow tests, goes on
where the short one ends.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from inference.messages import Token, ToolCall
from models_app.models import User
from models_app.responses import ResponseRecord, keep_response
from registry import manifests
from tests.conftest import MakeModel, principal_for
from tests.contract.fuzz_bodies import ABLE, BODIES, FURTHER, STORED_ID, STORED_ITEM_ID
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import Answer, AsgiClient
from tests.model_layers import add_layer

SHORT_ROUNDS: Final = 25
LONG_ROUNDS: Final = 100
# What these accept is really done, or costs a process each time.
COSTLY: Final = frozenset({"api/create", "api/jobs", "api/pull", "api/push", "api/show"})
# Bytes under a digest (tests/registry/api/test_blobs.py), and routes that read no body.
NOT_JSON: Final = frozenset(
    {
        "api/blobs/<str:digest>",
        "api/nodes/join",  # nobody's but a node's: tests/inference/api/test_nodes.py
        "api/limit-rules/<int:rule_id>",
        "api/jobs/<str:job_id>/cancel",
        "api/queue/<str:request_id>/cancel",
        "api/jobs/<str:job_id>/retry",
        "api/users/<str:name>/approve",
        "api/users/<str:name>/activate",
        "api/users/<str:name>/deactivate",
        "api/users/<str:name>/sessions/end",
        "api/users/<str:name>/password-link",
        "api/invites/<str:invite_id>",
        "v1/models/<path:name>",
        "v1/responses/<str:response_id>",
        "v1/responses/<str:response_id>/cancel",
        "v2/<path:name>/manifests/<str:reference>",
    }
)
# Something of every kind that an answer can have.
SAID: Final = (
    Token(request_id="", thinking="Hm."),
    "Hello",
    Token(request_id="", tool_calls=(ToolCall(name="f", arguments={"x": 1}, id="call_fake1"),)),
)
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
            for method in {"post", "put", "patch", "delete"} & set(
                getattr(view, "http_method_names", ())
            ):
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
    # A push that is not streamed has begun before its name is looked at (contract 2.3).
    assert answer.status < 500 or path == "api/push", answer.text
    assert "internal server error" not in answer.text
    if answer.status >= 400:
        error = answer.json()["error"]
        assert answer.content_type.startswith("application/json")
        if path.startswith("v1/"):
            is_anthropic = path.startswith("v1/messages")
            keys = ["type", "message"] if is_anthropic else ["message", "type", "param", "code"]
            assert list(error) == keys
            error = error["message"]
        assert isinstance(error, str)
        assert error
    elif answer.content_type.startswith("text/event-stream"):
        last = answer.text.removesuffix("\n\n").rpartition("\n\n")[2]
        assert last.startswith(ENDS), last
    elif answer.content_type == "application/x-ndjson":
        last = answer.lines()[-1]
        assert last.get("done") is True or last.get("status") == "success" or last["error"]


# How a stream ends well.
ENDS: Final = ("data: [DONE]", "event: response.", "event: message_stop")


async def throw(api: AsgiClient, method: str, path: str, rounds: range) -> None:
    chance = random.Random(f"{method} {path}")  # noqa: S311 - a seed, no secret
    for number in range(rounds.stop):
        body = mutated(chance, chance.choice([BODIES[path], *FURTHER.get(path, ())]))
        if number not in rounds:
            continue
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
    node.default = Script(pieces=SAID)
    add_layer(make_model("able", template=ABLE), manifests.PROJECTOR, b"a projector")
    make_model("alice/mine", alice)
    item = {"id": STORED_ITEM_ID, "type": "message", "role": "user", "content": []}
    record = ResponseRecord(
        response_id=STORED_ID,
        model_name="able",
        input=json.dumps([item]),
        body=json.dumps({"output": []}),
    )
    keep_response(principal_for(alice), record)
    return node


# What a good body is told where that is not 200.
TAKEN: Final = {
    "api/pull": 403,
    "api/push": 403,
    "api/jobs": 201,
    "api/me/delete": 403,  # not with a key
    "api/users": 201,
    "api/teams": 201,
    "api/invites": 201,
    "api/keys": 201,
    # Nobody and nothing is called so.
    "api/keys/<str:prefix>": 404,
    "api/keys/<str:prefix>/rotate": 404,
    "api/users/<str:name>": 404,
    "api/teams/<str:name>": 404,
    "api/teams/<str:name>/members/<str:user>": 404,
    "api/teams/<str:name>/service-accounts": 404,
}


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_good_body_is_taken(
    target: FakeNode, api_for: Callable[[str], AsgiClient], method: str, path: str
) -> None:
    answer = await api_for(path).request(method, f"/{path}", data=BODIES[path])

    assert answer.status == TAKEN.get(path, 200)


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_no_body_is_the_servers_fault(
    target: FakeNode, api_for: Callable[[str], AsgiClient], method: str, path: str
) -> None:
    await throw(api_for(path), method, path, range(SHORT_ROUNDS))


@pytest.mark.slow
@pytest.mark.beside
@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_no_body_is_the_servers_fault_for_long(
    target: FakeNode, api_for: Callable[[str], AsgiClient], method: str, path: str
) -> None:
    end = LONG_ROUNDS // 2 if path in COSTLY else LONG_ROUNDS
    await throw(api_for(path), method, path, range(SHORT_ROUNDS, end))
