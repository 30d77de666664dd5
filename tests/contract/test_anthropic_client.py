"""Anthropic's own SDK on a listening site: messages, streams, tools, counting, its errors."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from inference.messages import ChatPrompt, FailureCode, Generate, Token, ToolCall
from tests.contract.conftest import RunningSite
from tests.contract.other_clients import Driver
from tests.fakes.engine import Script
from tests.inference.api.test_anthropic_schemas import SDK_FIELDS
from tests.limited import redis_socket, redis_url

__all__ = ["redis_socket", "redis_url"]

# It runs in the clients' own environment, which `make test` installs.
pytestmark = [pytest.mark.slow, pytest.mark.beside]

Steps = Callable[..., list[Any]]
CALL = ToolCall(id="call_1", name="get_weather", arguments={"city": "Oslo"})
# Sent as headers, or only in older versions of the SDK.
BESIDE_THE_BODY = {"betas", "output_format", "temperature", "top_k", "top_p"}


def token(**said: Any) -> Token:
    return Token(request_id="", **said)


THINKING_AND_CALLING = Script(
    pieces=(token(thinking="Hm."), "I ", "look.", token(tool_calls=(CALL,)))
)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    """The SDK's process."""
    with closing(Driver("anthropic")) as running:
        yield running


@pytest.fixture
def steps(site: RunningSite, driver: Driver) -> Steps:
    """Has the driver do steps with a model."""
    site.node.default = Script()

    def do(model: str, *names: str) -> list[Any]:
        return driver.do(site.url, site.key, model, names)

    return do


def test_client_gets_messages_whole_and_in_pieces(steps: Steps, model: str) -> None:
    whole, bearer, pieces, streamed = steps(model, "create", "bearer", "asynchronous", "stream")

    assert whole["content"] == [{"type": "text", "text": "Hello.", "citations": None}]
    assert (whole["stop_reason"], whole["stop_sequence"]) == ("end_turn", None)
    assert (whole["usage"]["input_tokens"], whole["usage"]["output_tokens"]) == (10, 3)
    assert bearer == "Hello."
    assert pieces == ["Hello", "."]
    assert streamed[0] == ["Hello", "."]
    for name in ("content", "stop_reason", "model", "role"):
        assert streamed[1][name] == whole[name] or name == "content"
    assert streamed[1]["content"][0]["text"] == "Hello."


def test_client_gets_thinking_and_calls_from_a_stream(
    steps: Steps, site: RunningSite, able_model: str
) -> None:
    site.node.scripts.extend([THINKING_AND_CALLING, THINKING_AND_CALLING])
    [[kinds, called], thought] = steps(able_model, "tools", "thinking")

    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert [block["type"] for block in called["content"]] == ["thinking", "text", "tool_use"]
    assert called["content"][2]["input"] == {"city": "Oslo"}
    assert called["stop_reason"] == "tool_use"
    assert thought[0]["thinking"] == "Hm."
    assert thought[0]["signature"]


def test_client_gives_back_what_the_model_said(
    steps: Steps, site: RunningSite, able_model: str
) -> None:
    site.node.scripts.append(THINKING_AND_CALLING)

    assert steps(able_model, "history") == ["Hello."]
    prompt = site.node.got(Generate)[1].prompt
    assert isinstance(prompt, ChatPrompt)
    user, assistant, tool = prompt.messages
    assert (user.role, assistant.role, tool.role) == ("user", "assistant", "tool")
    assert (assistant.thinking, assistant.content) == ("Hm.", "I look.")
    assert assistant.tool_calls[0].arguments == {"city": "Oslo"}
    assert (tool.content, tool.tool_name, tool.tool_call_id) == ("rain", "get_weather", "call_1")


def test_client_gets_an_object(steps: Steps, site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=('{"number":', " 4}")))

    assert steps(model, "parse") == [4]
    assert '"number"' in site.node.got(Generate)[0].json_schema


def test_client_has_tokens_counted(steps: Steps, able_model: str) -> None:
    assert steps(able_model, "count_tokens") == [4]  # "user:", then the question's three words


def test_client_is_told_the_requests_id(steps: Steps, model: str) -> None:
    [[sent, header, shown]] = steps(model, "request_id")

    assert sent.startswith("req_")
    assert sent == header == shown


def test_replies_satisfy_the_sdks_own_models(
    steps: Steps, site: RunningSite, able_model: str
) -> None:
    site.node.scripts.extend([THINKING_AND_CALLING, THINKING_AND_CALLING])
    [checked] = steps(able_model, "schemas")

    assert checked[:2] == ["message", "message_start"]
    assert checked[-2:] == ["message_stop", 4]


def test_client_raises_the_class_of_each_error(steps: Steps, model: str) -> None:
    [raised] = steps(model, "errors")

    assert {name: told[:2] for name, told in raised.items()} == {
        "bad": ["BadRequestError", "invalid_request_error"],
        "refused": ["BadRequestError", "invalid_request_error"],
        "key": ["AuthenticationError", "authentication_error"],
        "model": ["NotFoundError", "not_found_error"],
        "count": ["NotFoundError", "not_found_error"],
        "batch": ["NotFoundError", "not_found_error"],
    }
    assert raised["refused"][2] == '"container" is not supported by this server'
    assert all(request_id.startswith("req_") for *_, request_id in raised.values())


def test_client_is_told_of_too_much_work(steps: Steps, site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=(), failure=FailureCode.QUEUE_FULL))
    [[kind, error_type, *_]] = steps(model, "busy")

    assert error_type == "overloaded_error"
    assert kind in {"OverloadedError", "ServiceUnavailableError"}


def test_client_raises_when_a_limit_is_reached(
    steps: Steps, model: str, settings: Any, redis_url: str
) -> None:
    settings.REDIS_URL = redis_url
    settings.REQUESTS_PER_MINUTE = 1
    [_, [kind, error_type, *_]] = steps(model, "create", "busy")

    assert (kind, error_type) == ("RateLimitError", "rate_limit_error")


def test_client_raises_in_the_middle_of_a_stream(
    steps: Steps, site: RunningSite, model: str
) -> None:
    site.node.scripts.append(Script(failure=FailureCode.RUNNER_CRASHED))
    [[[_, error_type, message, _], pieces]] = steps(model, "broken_stream")

    assert pieces == ["Hello", "."]
    assert error_type == "api_error"
    assert message.startswith("model runner has unexpectedly stopped")


def test_every_field_of_the_sdk_is_known_here(steps: Steps, model: str) -> None:
    [fields] = steps(model, "fields")

    assert set(fields) - BESIDE_THE_BODY == SDK_FIELDS.keys() - BESIDE_THE_BODY
