"""The official `ollama` and `openai` Python clients ask a really listening site for vectors."""

import math
from collections.abc import Iterator

import ollama
import openai
import pytest

from inference.messages import Embed
from tests.contract.conftest import RunningSite
from tests.fakes.engine import FAKE_WIDTH


@pytest.fixture
def ollama_client(site: RunningSite) -> Iterator[ollama.Client]:
    client = ollama.Client(host=site.url, headers={"Authorization": f"Bearer {site.key}"})
    yield client
    client._client.close()


@pytest.fixture
def openai_client(site: RunningSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        yield client


def test_ollama_embeds_several_texts(ollama_client: ollama.Client, model: str) -> None:
    found = ollama_client.embed(model, ["a", "b"])

    assert [len(vector) for vector in found.embeddings] == [FAKE_WIDTH] * 2
    assert math.hypot(*found.embeddings[0]) == pytest.approx(1.0, rel=1e-6)
    assert found.prompt_eval_count == 10


def test_ollama_embeds_a_prompt(ollama_client: ollama.Client, model: str) -> None:
    assert len(ollama_client.embeddings(model, "a").embedding) == FAKE_WIDTH


def test_ollama_raises_for_a_missing_model(ollama_client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match='model "nope" not found, try pulling'):
        ollama_client.embed("nope", "a")


def test_openai_gets_numbers_whatever_it_asks_for(openai_client: openai.OpenAI, model: str) -> None:
    # Left to itself the client asks for base64 and decodes it.
    by_itself = openai_client.embeddings.create(model=model, input=["a", "b"])
    as_numbers = openai_client.embeddings.create(
        model=model, input=["a", "b"], encoding_format="float"
    )

    assert [item.index for item in by_itself.data] == [0, 1]
    for left, right in zip(by_itself.data, as_numbers.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding, rel=1e-7)


def test_openai_may_cut_the_vector(openai_client: openai.OpenAI, model: str) -> None:
    found = openai_client.embeddings.create(model=model, input="a", dimensions=2)

    assert math.hypot(*found.data[0].embedding) == pytest.approx(1.0, rel=1e-6)
    assert found.usage.total_tokens == 10


def test_openai_embeds_token_ids(
    site: RunningSite, openai_client: openai.OpenAI, model: str
) -> None:
    found = openai_client.embeddings.create(model=model, input=[[1, 2], [3]])

    assert [len(item.embedding) for item in found.data] == [FAKE_WIDTH] * 2
    assert site.wait_for(Embed).inputs == ((1, 2), (3,))


def test_openai_raises_for_a_bad_field(openai_client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.embeddings.create(model=model, input=[], user="me")

    assert caught.value.param == "input"


def test_openai_raises_for_a_missing_model(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        openai_client.embeddings.create(model="nope", input="a")
