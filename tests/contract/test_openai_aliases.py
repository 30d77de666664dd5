"""Names that OpenAI's clients have built in: by a copy, as the seed shows, and by an alias."""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from inference.messages import Generate
from models_app.aliases import set_alias
from tests.contract.conftest import RunningSite

HELLO: Any = [{"role": "user", "content": "Hello"}]
BUILT_IN = "gpt-4o-mini"


@pytest.fixture
def client(site: RunningSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        yield client


@pytest.fixture(params=["copy", "alias"])
def named(request: pytest.FixtureRequest, site: RunningSite, model: str) -> str:
    """The model under the name that clients have built in."""
    if request.param == "alias":
        set_alias(BUILT_IN, model)
    else:
        headers = {"Authorization": f"Bearer {site.key}"}
        body = {"source": model, "destination": BUILT_IN}
        copied = httpx2.post(f"{site.url}/api/copy", json=body, headers=headers, timeout=60)
        assert copied.status_code == 200
    return BUILT_IN


def test_chat_answers_under_the_name_it_was_asked_by(
    site: RunningSite, client: openai.OpenAI, named: str
) -> None:
    answer = client.chat.completions.create(model=named, messages=HELLO)
    site.wait_for(Generate)

    assert answer.choices[0].message.content == "Hello."
    assert answer.model == BUILT_IN


def test_stream_goes_under_the_name_it_was_asked_by(client: openai.OpenAI, named: str) -> None:
    chunks = list(client.chat.completions.create(model=named, messages=HELLO, stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello."
    assert {chunk.model for chunk in chunks} == {BUILT_IN}


def test_name_is_among_the_models(client: openai.OpenAI, named: str) -> None:
    ids = [found.id for found in client.models.list().data]

    assert any(found.endswith(f"{BUILT_IN}:latest") for found in ids)
    assert client.models.retrieve(named).id == BUILT_IN


def test_native_chat_answers_under_the_alias(site: RunningSite, model: str) -> None:
    set_alias(BUILT_IN, model)
    headers = {"Authorization": f"Bearer {site.key}"}
    body = {"model": BUILT_IN, "messages": HELLO, "stream": False}
    answer = httpx2.post(f"{site.url}/api/chat", json=body, headers=headers, timeout=60).json()

    assert (answer["model"], answer["message"]["content"]) == (BUILT_IN, "Hello.")


def test_alias_of_a_model_one_may_not_see_is_no_model(
    client: openai.OpenAI, bobs_model: str
) -> None:
    set_alias(BUILT_IN, bobs_model)

    with pytest.raises(openai.NotFoundError, match=BUILT_IN):
        client.chat.completions.create(model=BUILT_IN, messages=HELLO)
