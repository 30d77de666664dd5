"""The official `openai` Python client completes prompts and keeps house, at a listening site."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from asgiref.sync import async_to_sync

from inference.messages import (
    Cancel,
    FailureCode,
    Generate,
    PromptScored,
    RawPrompt,
    Token,
    TokenLogprob,
    TokensPrompt,
    TopToken,
)
from models_app.models import User
from tests.conftest import MakeModel
from tests.contract.conftest import RunningSite
from tests.fakes.engine import Script


@pytest.fixture
def client(site: RunningSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        yield client


def logprob(text: str) -> TokenLogprob:
    top = TopToken(token=b"other", logprob=-0.25)
    return TokenLogprob(token=text.encode(), logprob=-0.5, top=(top,))


def test_completion_returns_the_text(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="Say this is a test")

    assert answer.object == "text_completion"
    assert [(c.text, c.index, c.finish_reason) for c in answer.choices] == [("Hello.", 0, "stop")]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_completion_streams(client: openai.OpenAI, model: str) -> None:
    *chunks, last = client.completions.create(
        model=model, prompt="x", stream=True, stream_options={"include_usage": True}
    )

    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello."
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage is not None


def test_async_client_completes_and_streams(site: RunningSite, model: str) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key=site.key) as client:
            answer = await client.completions.create(model=model, prompt="x")
            stream = await client.completions.create(model=model, prompt="x", stream=True)
            streamed = [chunk.choices[0].text async for chunk in stream]
            return answer.choices[0].text, "".join(streamed)

    assert async_to_sync(ask)() == ("Hello.", "Hello.")


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        (["a", "b"], [RawPrompt(text="a"), RawPrompt(text="b")]),
        ([5, 6], [TokensPrompt(tokens=(5, 6))]),
        ([[5], [6]], [TokensPrompt(tokens=(5,)), TokensPrompt(tokens=(6,))]),
    ],
    ids=str,
)
def test_every_form_of_prompt_arrives(
    site: RunningSite, client: openai.OpenAI, model: str, prompt: Any, prompts: Any
) -> None:
    answer = client.completions.create(model=model, prompt=prompt, extra_body={"raw": True})

    assert [request.prompt for request in site.node.got(Generate)] == prompts
    assert [choice.index for choice in answer.choices] == list(range(len(prompts)))


def test_every_parameter_arrives(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    client.completions.create(
        model=model,
        prompt="x",
        max_tokens=3,
        n=2,
        best_of=4,
        logit_bias={"7": -100},
        seed=5,
        stop=["a", "b"],
        temperature=0.5,
        top_p=0.25,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        user="me",
        extra_body={"options": {"num_ctx": 1024}, "keep_alive": "1m"},
    )
    request = site.wait_for(Generate)
    sampling = request.sampling

    assert (request.choices, request.runner.num_ctx, request.keep_alive_s) == (4, 1024, 60)
    assert (sampling.num_predict, sampling.seed, sampling.stop) == (3, 5, ("a", "b"))
    assert (sampling.temperature, sampling.top_p) == (0.5, 0.25)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.5, -0.5)
    assert sampling.logit_bias == ((7, -100.0),)


def test_scores_are_understood(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    scores = PromptScored(request_id="", logprobs=(logprob("H"), logprob("i")))
    token = Token(request_id="", text="!", logprobs=(logprob("!"),))
    site.node.scripts.append(Script(pieces=(scores, token)))
    [choice] = client.completions.create(model=model, prompt="Hi", echo=True, logprobs=1).choices

    assert choice.text == "Hi!"
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["H", "i", "!"]
    assert choice.logprobs.text_offset == [0, 1, 2]
    assert choice.logprobs.token_logprobs == [None, -0.5, -0.5]
    assert (choice.logprobs.top_logprobs or [])[2] == {"other": -0.25, "!": -0.5}


def test_bad_field_is_a_bad_request_error(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt="x", logprobs=9)

    assert caught.value.param == "logprobs"


def test_late_failure_raises(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )

    with pytest.raises(openai.APIError, match="gone"):
        list(client.completions.create(model=model, prompt="x", stream=True))


def test_stream_that_is_given_up_ends_every_prompt(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.default = Script(pieces=("a",), is_held=True)
    stream = client.completions.create(model=model, prompt=["x", "y"], stream=True)
    next(iter(stream))
    stream.close()

    site.wait_for(Cancel)


# ------------------------------------------------------------------ models


@pytest.fixture
def own_model(transactional_db: None, make_model: MakeModel, alice: User) -> str:
    return make_model("alice/mine:7b", alice, system="Hm.")


def test_model_with_a_namespace_is_retrieved(client: openai.OpenAI, own_model: str) -> None:
    found = client.models.retrieve(own_model)

    assert (found.id, found.owned_by) == ("alice/mine:7b", "alice")


def test_missing_model_is_a_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody/nothing:1b")

    assert caught.value.code == "model_not_found"


def test_own_model_is_deleted(client: openai.OpenAI, own_model: str) -> None:
    deleted = client.models.delete(own_model)

    assert (deleted.id, deleted.object, deleted.deleted) == (own_model, "model", True)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(own_model)


def test_model_of_the_library_is_not_for_everyone_to_delete(
    client: openai.OpenAI, model: str
) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete(model)

    assert client.models.retrieve(model).id == model
