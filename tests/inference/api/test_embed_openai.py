"""`POST /v1/embeddings` (contract 3.6, 2.7)."""

import base64
import struct
from typing import Any

import pytest
from openai.types.embedding_create_params import EmbeddingCreateParams

from inference.api.openai.embeddings import EmbeddingsBody
from inference.messages import Embed, FailureCode
from tests.fakes.engine import FAKE_WIDTH, FakeNode, Script
from tests.fakes.http import AsgiClient

PATH = "/v1/embeddings"
KINDS: list[Any] = [
    True,
    3,
    -1,
    2.5,
    "x",
    "",
    [],
    {},
    ["x"],
    [1],
    [["x"]],
    [[1]],
    [[]],
    None,
    2**62,
]
FIELDS = "model input dimensions encoding_format options keep_alive truncate user"


async def inputs_of(node: FakeNode) -> tuple[str | tuple[int, ...], ...]:
    return (await node.wait_for(Embed)).inputs


async def test_answer_is_a_list_of_embeddings(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.post(PATH, {"model": model, "input": ["a", "b"], "user": "u"})
    body = answer.json()

    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert answer.body.endswith(b"\n")
    assert list(body) == ["object", "data", "model", "usage"]
    assert (body["object"], body["model"]) == ("list", model)
    assert [list(item) for item in body["data"]] == [["object", "embedding", "index"]] * 2
    assert [item["index"] for item in body["data"]] == [0, 1]
    assert body["usage"] == {"prompt_tokens": 10, "total_tokens": 10}


async def test_vectors_are_those_of_the_native_route(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    ours = await api.post(PATH, {"model": model, "input": ["a", "b"]})
    native = await api.post("/api/embed", {"model": model, "input": ["a", "b"]})

    found = [item["embedding"] for item in ours.json()["data"]]
    assert found == native.json()["embeddings"]


async def test_base64_holds_the_same_numbers(node: FakeNode, model: str, api: AsgiClient) -> None:
    body = {"model": model, "input": "a"}
    numbers = (await api.post(PATH, body)).json()["data"][0]["embedding"]

    text = (await api.post(PATH, {**body, "encoding_format": "base64"})).json()["data"][0]

    assert base64.b64decode(text["embedding"]) == struct.pack(f"<{FAKE_WIDTH}f", *numbers)


async def test_dimensions_cut_the_vector(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.post(PATH, {"model": model, "input": "a", "dimensions": 3})

    vector = answer.json()["data"][0]["embedding"]
    assert len(vector) == 3
    assert sum(number**2 for number in vector) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", ""], ("a", "")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
    ids=str,
)
async def test_every_form_of_input_is_understood(
    node: FakeNode, model: str, api: AsgiClient, value: Any, inputs: Any
) -> None:
    answer = await api.post(PATH, {"model": model, "input": value})

    assert await inputs_of(node) == inputs
    assert len(answer.json()["data"]) == len(inputs)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "invalid input"),
        ([], "invalid input"),
        (3, "invalid input type"),
        (True, "invalid input type"),
        ({}, "invalid input type"),
        ([1.5], "invalid input type"),
        ([True], "invalid input type"),
        ([[]], "invalid input type"),
        (["a", 1], "invalid input type"),
        ([-1], "invalid input type"),
        ([2**31], "invalid input type"),
        ([["a"]], "invalid input type"),
    ],
    ids=str,
)
async def test_input_of_another_kind_is_refused(
    model: str, api: AsgiClient, value: Any, message: str
) -> None:
    answer = await api.post(PATH, {"model": model, "input": value})

    assert answer.status == 400
    assert answer.json()["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": "input",
        "code": None,
    }


async def test_unknown_encoding_is_refused(model: str, api: AsgiClient) -> None:
    answer = await api.post(PATH, {"model": model, "input": "a", "encoding_format": "hex"})

    assert answer.status == 400
    assert answer.json()["error"]["message"] == (
        "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64']."
    )


@pytest.mark.parametrize("dimensions", [None, 0, 100])
async def test_dimensions_that_cut_nothing_leave_the_vector_whole(
    node: FakeNode, model: str, api: AsgiClient, dimensions: int | None
) -> None:
    answer = await api.post(PATH, {"model": model, "input": "a", "dimensions": dimensions})

    assert len(answer.json()["data"][0]["embedding"]) == FAKE_WIDTH


async def test_negative_dimensions_are_refused_by_name(model: str, api: AsgiClient) -> None:
    answer = await api.post(PATH, {"model": model, "input": "a", "dimensions": -1})

    assert (answer.status, answer.json()["error"]["param"]) == (400, "dimensions")


async def test_extra_fields_reach_the_engine(node: FakeNode, model: str, api: AsgiClient) -> None:
    extra = {"options": {"num_ctx": 512}, "keep_alive": "1m", "truncate": False}
    await api.post(PATH, {"model": model, "input": "a", **extra})
    request = await node.wait_for(Embed)

    assert (request.runner.num_ctx, request.keep_alive_s, request.truncate) == (512, 60, False)


async def test_too_many_inputs_are_refused(model: str, api: AsgiClient) -> None:
    answer = await api.post(PATH, {"model": model, "input": ["a"] * 8193})

    assert answer.status == 400
    assert answer.json()["error"]["message"] == "a request may have at most 8192 inputs"


def test_every_field_of_the_sdk_is_read() -> None:
    assert set(EmbeddingCreateParams.__annotations__) <= set(EmbeddingsBody.__struct_fields__)


async def test_missing_model_answers_as_recorded(model: str, api: AsgiClient) -> None:
    answer = await api.post(PATH, {"model": "nope", "input": "x"})

    assert (answer.status, answer.content_type) == (404, "application/json")
    assert answer.body == (
        b'{"error":{"message":"model \\"nope\\" not found, try pulling it first",'
        b'"type":"not_found_error","param":"model","code":"model_not_found"}}\n'
    )


async def test_empty_body_is_eof(model: str, api: AsgiClient) -> None:
    answer = await api.request("POST", PATH)

    assert (answer.status, answer.json()["error"]["message"]) == (400, "EOF")


async def test_refusal_of_the_engine_reaches_the_client(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    text = "token id 99999 is not in the model's vocabulary"
    node.scripts.append(Script(pieces=(), failure=FailureCode.BAD_REQUEST, failure_message=text))

    answer = await api.post(PATH, {"model": model, "input": [99999]})

    assert answer.status == 400
    assert answer.json()["error"]["message"] == text


async def test_private_model_of_another_does_not_exist(bobs_model: str, api: AsgiClient) -> None:
    theirs = await api.post(PATH, {"model": bobs_model, "input": "x"})
    nobodys = await api.post(PATH, {"model": "bob/nothing:latest", "input": "x"})

    assert theirs.status == nobodys.status == 404
    assert theirs.text.replace("secret", "nothing") == nobodys.text


@pytest.mark.parametrize("value", KINDS, ids=str)
async def test_no_kind_of_value_is_the_servers_fault(
    node: FakeNode, model: str, api: AsgiClient, value: Any
) -> None:
    for field in FIELDS.split():
        answer = await api.post(PATH, {"model": model, "input": "x", field: value})

        assert answer.status in {200, 400, 404}, (field, answer.text)
