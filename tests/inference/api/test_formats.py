"""`format`: what becomes of a schema, what is refused and when (contract 1.4, 2.4, 6.5, 11)."""

import json
from typing import Any

import pytest

from inference.api.formats import MAX_SCHEMA_BYTES, read_format
from inference.errors import InvalidFormat
from inference.messages import Generate
from tests.fakes.engine import FakeNode
from tests.fakes.http import AsgiClient

PERSON: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}
CLOSED = {**PERSON, "additionalProperties": False}
HI = {"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}
PATHS = ["/api/generate", "/api/chat"]
WRONG = r'invalid format: "\"xml\""; expected "json" or a valid JSON Schema object'


@pytest.mark.parametrize(
    ("schema", "used"),
    [
        (PERSON, CLOSED),
        ({}, {}),
        ({"type": "object"}, {"type": "object"}),
        ({"type": "array", "items": PERSON}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [PERSON, True]}, {"anyOf": [CLOSED, True]}),
        (
            {"$defs": {"p": PERSON}, "$ref": "#/$defs/p"},
            {"$defs": {"p": CLOSED}, "$ref": "#/$defs/p"},
        ),
        (
            {"properties": {"properties": PERSON}},
            {"properties": {"properties": CLOSED}, "additionalProperties": False},
        ),
    ],
)
def test_object_has_no_properties_that_its_schema_does_not_name(
    schema: dict[str, Any], used: dict[str, Any]
) -> None:
    assert json.loads(read_format(schema)) == used


@pytest.mark.parametrize(
    "schema",
    [
        {**PERSON, "additionalProperties": True},
        {**PERSON, "additionalProperties": {"type": "integer"}},
        {**PERSON, "patternProperties": {"^x": {}}},
        {"allOf": [PERSON, {"properties": {"age": {"type": "integer"}}}]},
        {**PERSON, "anyOf": [{"properties": {"age": {"type": "integer"}}}]},
        {"properties": "none"},
    ],
)
def test_schema_that_says_more_of_its_properties_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert json.loads(read_format(schema)) == schema


@pytest.mark.parametrize(
    ("value", "shown"), [("xml", r"\"xml\""), (3, "3"), ([], "[]"), (True, "true")]
)
def test_format_of_another_kind_is_refused(value: Any, shown: str) -> None:
    with pytest.raises(InvalidFormat) as caught:
        read_format(value)

    assert caught.value.status == 400
    assert caught.value.message == (
        f'invalid format: "{shown}"; expected "json" or a valid JSON Schema object'
    )


def test_schema_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidFormat, match=f"larger than {MAX_SCHEMA_BYTES} bytes"):
        read_format({"description": "x" * MAX_SCHEMA_BYTES})


@pytest.mark.parametrize("path", PATHS)
async def test_engine_gets_the_schema(
    node: FakeNode, model: str, api: AsgiClient, path: str
) -> None:
    await api.post(path, {"model": model, **HI, "format": PERSON})

    assert json.loads((await node.wait_for(Generate)).json_schema) == CLOSED


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("is_streamed", "content_type"),
    [(True, "application/json"), (False, "application/json; charset=utf-8")],
)
async def test_wrong_format_is_noticed_when_a_stream_has_begun(
    model: str, api: AsgiClient, path: str, is_streamed: bool, content_type: str
) -> None:
    body = {"model": model, **HI, "format": "xml", "stream": is_streamed}
    answer = await api.post(path, body)

    assert (answer.status, answer.json()) == (400, {"error": WRONG})
    assert answer.content_type == content_type


@pytest.mark.parametrize("path", PATHS)
async def test_missing_model_counts_before_a_wrong_format(
    model: str, api: AsgiClient, path: str
) -> None:
    answer = await api.post(path, {"model": "nope", **HI, "format": "xml"})

    assert (answer.status, answer.json()) == (404, {"error": "model 'nope' not found"})


@pytest.mark.parametrize("path", PATHS)
async def test_format_is_not_looked_at_where_a_model_is_only_loaded(
    node: FakeNode, model: str, api: AsgiClient, path: str
) -> None:
    answer = await api.post(path, {"model": model, "format": "xml"})

    assert (answer.status, answer.json()["done_reason"]) == (200, "load")
