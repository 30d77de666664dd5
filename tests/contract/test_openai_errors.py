"""Every failure raises the official `openai` client's own error class, with type, code and id."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from msgspec import structs
from openai import _base_client

from inference.messages import DoneReason, FailureCode, Generate
from models_app import limits
from models_app.keys import KeyRules, create_key
from models_app.models import User
from models_app.permissions import Scope
from tests.contract.conftest import RunningSite
from tests.fakes.engine import USAGE, Script
from tests.limited import NOON_MS, redis_socket, redis_url

__all__ = ["redis_socket", "redis_url"]

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(site: RunningSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        yield client


@pytest.fixture
def limited(settings: Any, redis_url: str) -> Any:
    """The settings of a site that counts."""
    settings.REDIS_URL = redis_url
    return settings


def facts_of(error: openai.APIError) -> tuple[str | None, str | None, str | None]:
    return error.type, error.code, error.param


def ask(client: openai.OpenAI, model: str, **changes: Any) -> Any:
    return client.chat.completions.create(model=model, messages=HELLO, **changes)


def test_bad_request(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model, temperature="hot")

    assert caught.value.status_code == 400
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id is not None


def test_prompt_too_long(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(Script(pieces=(), failure=FailureCode.PROMPT_TOO_LONG))

    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model)

    assert facts_of(caught.value) == (
        "invalid_request_error",
        "context_length_exceeded",
        "messages",
    )


def test_input_too_long(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(Script(pieces=(), failure=FailureCode.PROMPT_TOO_LONG))

    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=model, input="Hello")

    assert facts_of(caught.value) == ("invalid_request_error", "context_length_exceeded", "input")


def test_wrong_key(site: RunningSite) -> None:
    with (
        openai.OpenAI(base_url=f"{site.url}/v1", api_key="nonsense", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        ask(client, "any")

    assert facts_of(caught.value) == ("authentication_error", "invalid_api_key", None)


def test_key_that_may_only_look(site: RunningSite, alice: User, model: str) -> None:
    _, key = create_key(alice, "reader", KeyRules(scopes=(Scope.READ,)))
    with (
        openai.OpenAI(base_url=f"{site.url}/v1", api_key=key, max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError) as caught,
    ):
        ask(client, model)

    assert facts_of(caught.value) == ("permission_error", None, None)


@pytest.mark.parametrize("is_shown", [True, False])
def test_missing_model(client: openai.OpenAI, is_shown: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        if is_shown:
            client.models.retrieve("nope")
        else:
            ask(client, "nope")

    assert facts_of(caught.value) == ("not_found_error", "model_not_found", "model")


def test_route_that_does_not_exist(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.get("/nothing", cast_to=object)

    assert caught.value.type == "not_found_error"


def test_body_that_is_too_large(settings: Any, client: openai.OpenAI, model: str) -> None:
    settings.MAX_BODY_BYTES = 2048

    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, model, stop="x" * 4096)

    assert caught.value.status_code == 413
    assert facts_of(caught.value) == ("invalid_request_error", None, None)


@pytest.mark.parametrize(
    "code", [FailureCode.QUEUE_FULL, FailureCode.RUNNER_CRASHED, FailureCode.INTERNAL]
)
def test_engine_that_fails(
    site: RunningSite, client: openai.OpenAI, model: str, code: FailureCode
) -> None:
    site.node.scripts.append(Script(pieces=(), failure=code))

    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, model)

    assert facts_of(caught.value) == ("api_error", "server_error", None)


def test_failure_in_the_middle_of_a_stream(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED))

    with pytest.raises(openai.APIError) as caught:
        list(ask(client, model, stream=True))

    assert facts_of(caught.value) == ("api_error", "server_error", None)


def test_too_many_requests(limited: Any, client: openai.OpenAI, model: str) -> None:
    limited.REQUESTS_PER_MINUTE = 1
    ask(client, model)

    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, model)

    assert facts_of(caught.value) == ("rate_limit_error", "rate_limit_exceeded", None)
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_used_up_day(limited: Any, client: openai.OpenAI, model: str) -> None:
    limited.TOKENS_PER_DAY = 10
    ask(client, model)  # takes 13
    patient = client.with_options(max_retries=3)

    with pytest.raises(openai.RateLimitError) as caught:
        ask(patient, model)

    assert caught.value.code == "insufficient_quota"


def test_told_wait_lets_the_client_succeed(
    site: RunningSite,
    limited: Any,
    client: openai.OpenAI,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited_ms: list[int] = []
    monkeypatch.setattr(limits, "_now_ms", lambda: NOON_MS + sum(waited_ms))
    sleep = SimpleNamespace(sleep=lambda wait_s: waited_ms.append(round(wait_s * 1000)))
    monkeypatch.setattr(_base_client, "time", sleep)
    limited.TOKENS_PER_MINUTE = 6000
    usage = structs.replace(USAGE, completion_tokens=8000)
    site.node.scripts.append(Script(usage=usage, reason=DoneReason.STOP))
    ask(client, model)
    raw = client.with_options(max_retries=1).chat.completions.with_raw_response
    answer = raw.create(model=model, messages=HELLO, max_completion_tokens=1)

    assert answer.http_request.headers["x-stainless-retry-count"] == "1"
    assert len(site.node.got(Generate)) == 2
    assert len(waited_ms) == 1
    assert 20_000 < waited_ms[0] < 21_000


def test_call_that_is_tried_again_is_counted_once(
    site: RunningSite, limited: Any, client: openai.OpenAI, model: str
) -> None:
    limited.REQUESTS_PER_MINUTE = 10
    site.node.scripts.append(Script(pieces=(), failure=FailureCode.QUEUE_FULL))
    raw = client.with_options(max_retries=2).chat.completions.with_raw_response
    answer = raw.create(model=model, messages=HELLO, extra_headers={"Idempotency-Key": "call-1"})

    assert answer.http_request.headers["x-stainless-retry-count"] == "1"
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"


@pytest.mark.parametrize("stream", [False, True])
def test_good_answers_have_an_id_too(client: openai.OpenAI, model: str, stream: bool) -> None:
    raw = client.chat.completions.with_raw_response
    ids = {raw.create(model=model, messages=HELLO, stream=stream).request_id for _ in range(2)}

    assert len(ids) == 2
    assert all(found is not None and found.startswith("req_") for found in ids)
