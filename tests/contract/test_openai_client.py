"""The official `openai` Python client against a really listening site."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from inference.messages import Cancel, FailureCode, Generate, Token, TokenLogprob, TopToken
from tests.contract.conftest import RunningSite
from tests.fakes.engine import Script

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(site: RunningSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        yield client


def test_models_are_listed(client: openai.OpenAI, model: str) -> None:
    [found] = client.models.list().data

    assert (found.id, found.owned_by) == (model, "library")


def test_model_can_be_retrieved(client: openai.OpenAI, model: str) -> None:
    assert client.models.retrieve(model).id == model


def test_chat_returns_the_text(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO)

    assert answer.choices[0].message.content == "Hello."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13


def test_chat_streams_the_text(client: openai.OpenAI, model: str) -> None:
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello."
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_with_a_stream_that_wishes_it(client: openai.OpenAI, model: str) -> None:
    *_, last = client.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )

    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 3


def test_extra_body_reaches_the_engine(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    client.chat.completions.create(
        model=model,
        messages=HELLO,
        max_completion_tokens=5,
        extra_body={"options": {"num_ctx": 1024}, "keep_alive": "1m"},
    )
    request = site.wait_for(Generate)

    assert request.sampling.num_predict == 5
    assert (request.runner.num_ctx, request.keep_alive_s) == (1024, 60)


def test_schema_reaches_the_engine(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    schema: Any = {"name": "x", "strict": True, "schema": {"type": "object", "a": 1}}
    client.chat.completions.create(
        model=model,
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": schema},
        logit_bias={"7": -100},
    )
    request = site.wait_for(Generate)

    assert request.json_schema == '{"type":"object","a":1}'
    assert request.sampling.logit_bias == ((7, -100.0),)


def test_logprobs_are_understood(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    other = TopToken(token=b"I", logprob=-0.5)
    logprobs = (TokenLogprob(token=b"I", logprob=-0.5, top=(other,)),)
    site.node.scripts.append(Script(pieces=(Token(request_id="", text="I", logprobs=logprobs),)))
    answer = client.chat.completions.create(
        model=model, messages=HELLO, logprobs=True, top_logprobs=1
    )

    assert answer.choices[0].logprobs is not None
    [token] = answer.choices[0].logprobs.content or []
    assert (token.token, token.logprob, token.bytes) == ("I", -0.5, [73])
    assert token.top_logprobs[0].token == "I"


def test_several_choices_are_understood(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    pieces = tuple(Token(request_id="", text=text, choice=i) for i, text in enumerate("ab"))
    site.node.scripts.append(Script(pieces=pieces))
    answer = client.chat.completions.create(model=model, messages=HELLO, n=2)

    assert [choice.message.content for choice in answer.choices] == ["a", "b"]
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}


def test_wrong_key_is_an_authentication_error(site: RunningSite) -> None:
    with (
        openai.OpenAI(base_url=f"{site.url}/v1", api_key="nonsense", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()

    assert caught.value.code == "invalid_api_key"


def test_missing_model_is_a_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.chat.completions.create(model="nope", messages=HELLO)


def test_bad_request_is_a_bad_request_error(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="is too short"):
        client.chat.completions.create(model=model, messages=[])


def test_busy_server_is_an_internal_server_error(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(Script(pieces=(), failure=FailureCode.QUEUE_FULL))

    with pytest.raises(openai.InternalServerError, match="server busy"):
        client.chat.completions.create(model=model, messages=HELLO)


def test_busy_server_is_asked_again(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(Script(pieces=(), failure=FailureCode.QUEUE_FULL))
    patient = client.with_options(max_retries=1)

    answer = patient.chat.completions.create(model=model, messages=HELLO)

    assert answer.choices[0].message.content == "Hello."


def test_late_failure_raises(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )

    with pytest.raises(openai.APIError, match="gone"):
        list(client.chat.completions.create(model=model, messages=HELLO, stream=True))


def test_stream_that_is_given_up_cancels(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(Script(pieces=("a",), is_held=True))
    stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
    next(iter(stream))
    stream.close()

    site.wait_for(Cancel)


def test_whole_answer_that_is_given_up_cancels(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.default = Script(pieces=("a",), is_held=True)
    while not site.node.got(Generate):  # on a busy machine its patience may end on the way there
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=2).chat.completions.create(model=model, messages=HELLO)

    site.wait_for(Cancel)
