"""What each route says of a model name that is absent, no name, or nobody's (contract 2.3)."""

from typing import Any

import pytest

from tests.fakes.engine import FakeNode
from tests.fakes.http import AsgiClient

HELLO = [{"role": "user", "content": "Hello"}]
GENERATE = ("/api/generate", {"prompt": "x"})
CHAT = ("/api/chat", {"messages": HELLO})
EMBED = ("/api/embed", {"input": "x"})
EMBEDDINGS = ("/api/embeddings", {"prompt": "x"})
SHOW: tuple[str, dict[str, Any]] = ("/api/show", {})
ROUTES = [GENERATE, CHAT, EMBED, EMBEDDINGS, SHOW]
UNNAMED = [
    (GENERATE, 404, "model '' not found"),
    (CHAT, 400, "model is required"),
    (EMBED, 404, "model '' not found"),
    (EMBEDDINGS, 400, "model is required"),
    (SHOW, 400, "model is required"),
]
MISSING = [
    (GENERATE, "model 'nope' not found"),
    (CHAT, "model 'nope' not found"),
    (EMBED, 'model "nope" not found, try pulling it first'),
    (EMBEDDINGS, 'model "nope" not found, try pulling it first'),
    (SHOW, "model 'nope:latest' not found"),
]
NO_NAMES = ["a b", "a//b", ":tag", "m@d", "^", "-m", "a/-b/c", "x:y:z", "x\u0000", "ä", "m" * 81]


def path_of(row: Any) -> str:
    return row[0] if isinstance(row, tuple) else ""


@pytest.mark.parametrize("field", [{}, {"model": ""}, {"model": None}, {"name": ""}])
@pytest.mark.parametrize("row", UNNAMED, ids=lambda row: row[0][0])
async def test_absent_name(
    node: FakeNode, model: str, api: AsgiClient, row: Any, field: dict[str, Any]
) -> None:
    (path, body), status, message = row
    answer = await api.post(path, {**body, **field})

    assert (answer.status, answer.json()) == (status, {"error": message})


@pytest.mark.parametrize("route", ROUTES, ids=path_of)
@pytest.mark.parametrize("name", NO_NAMES)
async def test_text_that_is_no_name(
    node: FakeNode, model: str, api: AsgiClient, route: tuple[str, dict[str, Any]], name: str
) -> None:
    path, body = route
    answer = await api.post(path, {**body, "model": name})

    assert (answer.status, answer.json()) == (400, {"error": "invalid model name"})


@pytest.mark.parametrize("row", MISSING, ids=lambda row: row[0][0])
@pytest.mark.parametrize("key", ["model", "name", "Model", "NAME"])
async def test_name_of_nothing(
    node: FakeNode, model: str, api: AsgiClient, row: Any, key: str
) -> None:
    (path, body), message = row
    answer = await api.post(path, {**body, key: "nope"})

    assert (answer.status, answer.json()) == (404, {"error": message})


@pytest.mark.parametrize("route", ROUTES, ids=path_of)
async def test_private_model_of_another_is_a_name_of_nothing(
    node: FakeNode, bobs_model: str, api: AsgiClient, route: tuple[str, dict[str, Any]]
) -> None:
    path, body = route
    there = await api.post(path, {**body, "model": bobs_model})
    nowhere = await api.post(path, {**body, "model": "bob/nothing:latest"})

    assert there.status == nowhere.status == 404
    assert there.text.replace(bobs_model, "bob/nothing:latest") == nowhere.text


@pytest.mark.parametrize("route", ROUTES, ids=path_of)
@pytest.mark.parametrize("name", ["smollm2:135m ", "SmolLM2:135M", "library/smollm2:135m"])
async def test_other_spellings_of_a_name(
    node: FakeNode, model: str, api: AsgiClient, route: tuple[str, dict[str, Any]], name: str
) -> None:
    path, body = route

    assert (await api.post(path, {**body, "model": name, "stream": False})).status == 200


@pytest.mark.parametrize("route", ROUTES, ids=path_of)
async def test_model_goes_before_name(
    node: FakeNode, model: str, api: AsgiClient, route: tuple[str, dict[str, Any]]
) -> None:
    path, body = route
    sent = {**body, "model": model, "name": "nope", "stream": False}

    assert (await api.post(path, sent)).status == 200
