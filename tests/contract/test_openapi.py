"""The OpenAPI document: it has every route, and a fuzzer finds nothing in it that is not true."""

import ast
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from django.urls import URLPattern, get_resolver

from models_app.models import User
from ollamasite import openapi
from ollamasite.openapi_routes import OPERATIONS, Operation
from tests.conftest import MakeModel
from tests.contract.conftest import RunningSite
from tests.contract.other_clients import run_schemathesis
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient

VIEWS: Final[dict[str, Any]] = {
    str(pattern.pattern): getattr(pattern.callback, "view_class", None)
    for pattern in get_resolver().url_patterns
    if isinstance(pattern, URLPattern) and str(pattern.pattern).startswith(("api/", "v1/"))
}
ALL: Final = [
    (route, method, operation)
    for route, methods in OPERATIONS.items()
    for method, operation in methods.items()
]
# These need another registry (tests/registry/api/test_pull_and_push.py).
# Whose model it is comes first (tests/models_app/test_access_api.py).
# Only a node may say where it is (tests/inference/api/test_nodes.py).
FAR: Final = frozenset({"api/access", "api/nodes/join", "api/pull", "api/push"})
# Those without a place in their path, and with something to say.
ANSWERED: Final = [
    (r, m, each) for r, m, each in ALL if "<" not in r and each.reply and r not in FAR
]
TAKING_BODIES: Final = [(route, method, each) for route, method, each in ALL if each.body]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(openapi.document()))
    return found


def test_every_route_is_in_it_with_every_method() -> None:
    served = {
        (route, method)
        for route, view in VIEWS.items()
        for method in view.http_method_names
        if method != "head" or "get" not in view.http_method_names
    }
    # Uploads have no view: they go beside Django.
    assert served | {
        ("api/blobs/<str:digest>", "post"),
        ("api/nodes/blobs/<str:digest>", "get"),
    } == {(r, m) for r, m, _ in ALL}


@pytest.mark.parametrize(("route", "method", "operation"), TAKING_BODIES)
def test_body_is_the_one_that_the_view_reads(route: str, method: str, operation: Operation) -> None:
    source = inspect.getsource(getattr(VIEWS[route], method))
    calls = [node for node in ast.walk(ast.parse(source.strip())) if isinstance(node, ast.Call)]
    [read] = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "read_body"]
    name = read.args[1]

    assert isinstance(name, ast.Name)
    assert operation.body is not None
    assert operation.body.__name__ == name.id


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert {name for name in _references(document) if name not in schemas} == set()


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*(_references(item) for item in value))
    if not isinstance(value, Mapping):
        return set()
    target = value.get("$ref")
    here = {target.rpartition("/")[2]} if isinstance(target, str) else set()
    return here.union(*(_references(item) for item in value.values()))


def test_operations_have_names_of_their_own_and_a_sentence(document: dict[str, Any]) -> None:
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]

    assert sorted(set(names)) == sorted(names)
    assert [each["operationId"] for each in operations if not each["summary"].endswith(".")] == []


def test_scope_of_a_key_is_told(document: dict[str, Any]) -> None:
    model = document["paths"]["/v1/models/{name}"]

    assert "`read`" in model["get"]["description"]
    assert "`write`" in model["delete"]["description"]


def test_null_is_allowed_where_it_counts_as_absent(document: dict[str, Any]) -> None:
    body = document["components"]["schemas"]["ChatCompletionBody"]

    assert {"type": "null"} in body["properties"]["temperature"]["anyOf"]
    assert {"type": "null"} in body["properties"]["messages"]["anyOf"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/chat", "NativeErrorReply"),
        ("/v1/chat/completions", "OpenAIErrorReply"),
        ("/v1/messages", "AnthropicErrorReply"),
    ],
)
def test_errors_are_in_the_dialects_shape(document: dict[str, Any], path: str, name: str) -> None:
    content = document["paths"][path]["post"]["responses"]["4XX"]["content"]

    assert content["application/json"]["schema"]["$ref"].endswith(f"/{name}")


async def test_document_is_served_to_whoever_may_read(api: AsgiClient) -> None:
    answer = await api.get("/openapi.json")

    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.json()["openapi"] == "3.1.0"
    assert "/v1/chat/completions" in answer.json()["paths"]


async def test_document_is_not_served_to_strangers(stranger: AsgiClient) -> None:
    assert (await stranger.get("/openapi.json")).status == 401


@pytest.mark.parametrize(("route", "method", "operation"), ANSWERED)
async def test_example_is_answered_as_described(
    node: FakeNode,
    api_for: Callable[[str], AsgiClient],
    model: str,
    route: str,
    method: str,
    operation: Operation,
) -> None:
    whole = {**operation.example, "stream": False} if operation.stream else {**operation.example}
    answer = await api_for(route).request(method.upper(), f"/{route}", data=whole or None)

    assert answer.status in operation.statuses, answer.text
    assert operation.reply is not None
    # Types and missing keys are looked at, and keys that are not described.
    msgspec.json.decode(answer.body, type=operation.reply)


@pytest.mark.slow
@pytest.mark.beside
@pytest.mark.timeout(500)
def test_no_request_that_the_document_allows_finds_it_wrong(
    site: RunningSite, model: str, alice: User, make_model: MakeModel, tmp_path: Path
) -> None:
    make_model("backup", alice)
    # As many words as some requests ask for would not fit into memory.
    site.node.default = Script()

    found = run_schemathesis(site.url, site.key, model, tmp_path)

    assert not found, found
