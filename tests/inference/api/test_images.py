"""Images in every dialect: from base64 to the engine, or refused (contract 1.2, 1.3, 3.2, 6.6)."""

import base64
from typing import Any

import pytest

from inference.messages import Generate
from registry import manifests
from tests.conftest import MakeModel
from tests.fakes.engine import FakeNode
from tests.fakes.http import AsgiClient
from tests.model_layers import add_layer

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
BYTES = base64.b64decode(PNG)
ASK = "What is it?"


def openai_parts(*images: str) -> list[dict[str, Any]]:
    urls = [{"url": f"data:image/png;base64,{image}"} for image in images]
    parts = [{"type": "image_url", "image_url": url} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": ASK}, *parts]}]


def bodies(*images: str) -> list[tuple[str, dict[str, Any]]]:
    native = [{"role": "user", "content": ASK, "images": list(images)}]
    return [
        ("/api/generate", {"prompt": ASK, "images": list(images)}),
        ("/api/chat", {"messages": native}),
        ("/v1/chat/completions", {"messages": openai_parts(*images)}),
    ]


@pytest.fixture
def seeing(transactional_db: None, make_model: MakeModel) -> tuple[str, str]:
    """A model with a projector: its name and the projector's digest."""
    name = make_model("seeing")
    return name, add_layer(name, manifests.PROJECTOR, b"a projector")


@pytest.mark.parametrize(("path", "body"), bodies(PNG, PNG))
async def test_images_reach_the_engine_with_their_projector(
    node: FakeNode, seeing: tuple[str, str], api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    name, projector = seeing
    answer = await api.post(path, {"model": name, **body})
    request = await node.wait_for(Generate)
    prompt: Any = request.prompt

    assert answer.status == 200
    assert request.model.projector == projector
    assert [image for message in prompt.messages for image in message.images] == [BYTES, BYTES]


@pytest.mark.parametrize(("path", "body"), bodies(PNG))
async def test_model_that_cannot_see_refuses_them(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    answer = await api.post(path, {"model": model, **body})

    assert answer.status == 400
    assert "this model is missing data required for image input" in answer.text
    assert node.got(Generate) == []


@pytest.mark.parametrize(
    ("is_streamed", "content_type"),
    [(True, "application/json"), (False, "application/json; charset=utf-8")],
)
async def test_refusal_of_images_comes_when_a_stream_has_begun(
    model: str, api: AsgiClient, is_streamed: bool, content_type: str
) -> None:
    body = {"model": model, "prompt": ASK, "images": [PNG], "stream": is_streamed}
    answer = await api.post("/api/generate", body)

    assert (answer.status, answer.content_type) == (400, content_type)


async def test_images_are_not_looked_at_where_a_model_is_only_loaded(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/generate", {"model": model, "images": [PNG]})

    assert (answer.status, answer.json()["done_reason"]) == (200, "load")


@pytest.mark.parametrize(("path", "body"), [*bodies("AAAA"), *bodies(*[PNG] * 17)])
async def test_what_is_no_image_or_too_many_does_not_reach_the_engine(
    node: FakeNode, seeing: tuple[str, str], api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    answer = await api.post(path, {"model": seeing[0], **body})

    assert answer.status == 400
    assert "error" in answer.json()
    assert node.got(Generate) == []


async def test_model_with_a_projector_says_that_it_sees(
    node: FakeNode, seeing: tuple[str, str], api: AsgiClient
) -> None:
    shown = (await api.post("/api/show", {"model": seeing[0]})).json()

    assert shown["capabilities"] == ["completion", "vision"]
