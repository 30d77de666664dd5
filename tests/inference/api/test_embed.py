"""`POST /api/embed` and `/api/embeddings` (contract 1.6, 2.3, 2.4)."""

import asyncio
import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from inference.messages import (
    Cancel,
    Embed,
    FailureCode,
    Load,
    Priority,
    RunnerOptions,
    Unload,
    Usage,
)
from tests.fakes.engine import FAKE_WIDTH, FakeNode, Script, fake_vector
from tests.fakes.http import AsgiClient

ROUTES = ["/api/embed", "/api/embeddings"]
KINDS: list[Any] = [True, 3, -1, 2.5, "x", "", [], {}, ["x"], [1], [["x"]], {"x": 1}, None, 2**62]
FIELDS = "model name input prompt truncate dimensions options keep_alive"


async def sent(node: FakeNode) -> Embed:
    return await node.wait_for(Embed)


async def expected(node: FakeNode, index: int = 0) -> list[float]:
    """Return the vector that the engine gave for an input."""
    request = await sent(node)
    found = struct.unpack(f"<{FAKE_WIDTH}f", fake_vector(request.inputs[index], request))
    return list(found)


def length_of(vector: Sequence[float]) -> float:
    return math.hypot(*vector)


def as_float32(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


# ---------------------------------------------------------------- /api/embed


async def test_text_becomes_one_vector(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.post("/api/embed", {"model": model, "input": "why"})
    body = answer.json()

    assert answer.status == 200
    assert answer.content_type == "application/json; charset=utf-8"
    assert list(body) == [
        "model",
        "embeddings",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
    ]
    assert body["model"] == model
    assert body["embeddings"] == [pytest.approx(await expected(node), rel=1e-6)]
    assert body["prompt_eval_count"] == 10
    assert body["load_duration"] > 551990
    assert body["total_duration"] > 0


async def test_numbers_are_short_and_the_same_float32(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/embed", {"model": model, "input": "why"})
    vector = answer.json()["embeddings"][0]

    assert as_float32(vector) == as_float32(await expected(node))
    assert max(len(repr(abs(number))) for number in vector) <= len("0.0123456789")


async def test_vectors_come_in_the_order_of_the_texts(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    texts = [f"text {number}" for number in range(150)]

    rows = (await api.post("/api/embed", {"model": model, "input": texts})).json()["embeddings"]

    assert (await sent(node)).inputs == tuple(texts)
    assert rows[0] == pytest.approx(await expected(node, 0), rel=1e-6)
    assert rows[149] == pytest.approx(await expected(node, 149), rel=1e-6)
    assert len(rows) == 150


async def test_empty_text_in_a_list_has_a_vector(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/embed", {"model": model, "input": ["", "a"]})

    assert len(answer.json()["embeddings"]) == 2


async def test_dimensions_cut_the_vector_and_scale_the_rest(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/embed", {"model": model, "input": "a", "dimensions": 3})
    vector = answer.json()["embeddings"][0]
    head = (await expected(node))[:3]

    assert vector == pytest.approx([number / length_of(head) for number in head], rel=1e-6)


@pytest.mark.parametrize("dimensions", [0, -1, FAKE_WIDTH, FAKE_WIDTH + 1, 2**60])
async def test_other_dimensions_change_nothing(
    node: FakeNode, model: str, api: AsgiClient, dimensions: int
) -> None:
    body = {"model": model, "input": "a", "dimensions": dimensions}

    answer = await api.post("/api/embed", body)

    assert len(answer.json()["embeddings"][0]) == FAKE_WIDTH


@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": ""}, {"input": []}])
async def test_nothing_to_embed_loads_the_model(
    node: FakeNode, model: str, api: AsgiClient, body: dict[str, Any]
) -> None:
    answer = await api.post("/api/embed", {"model": model, **body, "keep_alive": 60})

    assert answer.json() == {"model": model, "embeddings": []}
    assert (await node.wait_for(Load)).keep_alive_s == 60.0


async def test_nothing_to_embed_and_no_keep_alive_unloads(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/embed", {"model": model, "keep_alive": 0})

    assert answer.json() == {"model": model, "embeddings": []}
    assert (await node.wait_for(Unload)).model.name == model


async def test_engine_is_told_what_was_asked_for(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = {"model": model, "input": "a", "truncate": False, "keep_alive": "10m"}

    await api.post("/api/embed", {**body, "options": {"num_ctx": 1024, "num_batch": 64}})

    request = await sent(node)
    assert request.runner == RunnerOptions(num_ctx=1024, num_batch=64)
    assert (request.truncate, request.normalize) == (False, True)
    assert request.keep_alive_s == 600.0
    assert (request.user, request.priority) == ("alice", Priority.API)


async def test_defaults_are_the_contracts(node: FakeNode, model: str, api: AsgiClient) -> None:
    await api.post("/api/embed", {"model": model, "input": "a"})

    request = await sent(node)
    assert (request.truncate, request.keep_alive_s) == (True, None)


@pytest.mark.parametrize(("asked", "told"), [(3, 3), (1, 1), (0, 1), (-5, 1)])
async def test_window_may_be_smaller_than_one_that_answers(
    node: FakeNode, model: str, api: AsgiClient, asked: int, told: int
) -> None:
    await api.post("/api/embed", {"model": model, "input": "a", "options": {"num_ctx": asked}})

    assert (await sent(node)).runner.num_ctx == told


async def test_request_header_chooses_the_class(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = {"model": model, "input": "a"}

    await api.post("/api/embed", body, headers={"X-Priority": "batch"})

    assert (await sent(node)).priority is Priority.BATCH


async def test_old_clients_may_call_the_model_name(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/embed", {"name": model, "input": "a"})

    assert answer.json()["model"] == model


@pytest.mark.parametrize("value", [3, True, {}, [1], ["a", None], [["a"]]])
async def test_input_of_another_kind_is_refused(model: str, api: AsgiClient, value: object) -> None:
    answer = await api.post("/api/embed", {"model": model, "input": value})

    assert (answer.status, answer.json()) == (400, {"error": "invalid input type"})


async def test_too_many_inputs_are_refused(model: str, api: AsgiClient) -> None:
    answer = await api.post("/api/embed", {"model": model, "input": ["a"] * 8193})

    assert answer.status == 400
    assert answer.json() == {"error": "a request may have at most 8192 inputs"}


# ---------------------------------------------------------------- /api/embeddings


async def test_prompt_becomes_a_vector_of_its_own_length(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/embeddings", {"model": model, "prompt": "why", "input": "no"})
    vector = answer.json()["embedding"]

    assert list(answer.json()) == ["embedding"]
    assert vector == pytest.approx(await expected(node), rel=1e-6)
    assert length_of(vector) > 1.5
    assert (await sent(node)).inputs == ("why",)


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": None}, {"input": "ignored"}])
async def test_empty_prompt_loads_the_model(
    node: FakeNode, model: str, api: AsgiClient, body: dict[str, Any]
) -> None:
    answer = await api.post("/api/embeddings", {"model": model, **body})

    assert answer.json() == {"embedding": []}
    assert (await node.wait_for(Load)).model.name == model


async def test_prompt_must_be_text(model: str, api: AsgiClient) -> None:
    answer = await api.post("/api/embeddings", {"model": model, "prompt": ["a"]})

    assert answer.status == 400
    assert answer.json()["error"] == (
        "json: cannot unmarshal array into Go struct field EmbeddingRequest.prompt of type string"
    )


# ---------------------------------------------------------------- refusals of both


@pytest.mark.parametrize(
    ("path", "name", "status", "message"),
    [
        ("/api/embed", "", 404, "model '' not found"),
        ("/api/embeddings", "", 400, "model is required"),
        ("/api/embed", "a b!", 400, "invalid model name"),
        ("/api/embeddings", "a b!", 400, "invalid model name"),
        ("/api/embed", "nope", 404, 'model "nope" not found, try pulling it first'),
        ("/api/embeddings", "nope", 404, 'model "nope" not found, try pulling it first'),
        ("/api/embed", "bob/secret", 404, 'model "bob/secret" not found, try pulling it first'),
    ],
)
async def test_bad_names_are_refused_in_the_contracts_words(
    bobs_model: str, api: AsgiClient, path: str, name: str, status: int, message: str
) -> None:
    answer = await api.post(path, {"model": name, "input": "a", "prompt": "a"})

    assert (answer.status, answer.json()) == (status, {"error": message})
    assert answer.content_type == "application/json; charset=utf-8"


@pytest.mark.parametrize("path", ROUTES)
async def test_strangers_are_refused(node: FakeNode, stranger: AsgiClient, path: str) -> None:
    answer = await stranger.post(path, {"model": "x", "input": "a", "prompt": "a"})

    assert answer.status == 401


@pytest.mark.parametrize("path", ROUTES)
async def test_empty_body_is_missing(model: str, api: AsgiClient, path: str) -> None:
    answer = await api.request("POST", path)

    assert (answer.status, answer.json()) == (400, {"error": "missing request body"})


@pytest.mark.parametrize("path", ROUTES)
async def test_refusal_of_the_engine_reaches_the_client(
    node: FakeNode, model: str, api: AsgiClient, path: str
) -> None:
    text = "the input length exceeds the context length"
    node.scripts.append(Script(pieces=(), failure=FailureCode.BAD_REQUEST, failure_message=text))

    answer = await api.post(path, {"model": model, "input": "a", "prompt": "a"})

    assert (answer.status, answer.json()) == (400, {"error": text})


@pytest.mark.parametrize("path", ROUTES)
async def test_option_of_a_wrong_kind_is_refused(model: str, api: AsgiClient, path: str) -> None:
    body = {"model": model, "input": "a", "prompt": "a", "options": {"num_ctx": "many"}}

    answer = await api.post(path, body)

    assert answer.status == 400
    assert answer.json() == {"error": 'option "num_ctx" must be of type integer'}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("value", KINDS, ids=str)
async def test_no_kind_of_value_is_the_servers_fault(
    node: FakeNode, model: str, api: AsgiClient, path: str, value: Any
) -> None:
    good = {"model": model, "input": "x", "prompt": "x"}
    for field in FIELDS.split():
        answer = await api.post(path, {**good, field: value})

        assert answer.status in {200, 400, 404}, (field, answer.text)


async def test_client_that_leaves_ends_its_request(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(), is_held=True))
    call = api.open("POST", "/api/embed", data={"model": model, "input": "a"})
    request = await sent(node)

    await call.leave()

    assert (await node.wait_for(Cancel)).request_id == request.request_id


async def test_counters_that_are_zero_are_left_out(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(), usage=Usage()))

    answer = await api.post("/api/embed", {"model": model, "input": "a"})

    assert "prompt_eval_count" not in answer.json()


async def test_requests_at_the_same_time_get_their_own_vectors(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    texts = [f"text {number}" for number in range(20)]
    calls = (api.post("/api/embed", {"model": model, "input": text}) for text in texts)

    together = [answer.json()["embeddings"] for answer in await asyncio.gather(*calls)]
    alone = [
        (await api.post("/api/embed", {"model": model, "input": text})).json()["embeddings"]
        for text in texts
    ]

    assert together == alone
