"""langchain-openai and litellm on a listening site: OpenAI's dialect as others' programs speak it.

Both import for seconds, so each has one process for all tests.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from inference.messages import ChatPrompt, Generate, Token, ToolCall
from tests.contract.conftest import RunningSite
from tests.contract.other_clients import Driver, litellm_driver
from tests.fakes.engine import FAKE_WIDTH, Script

# They run in the clients' own environment, which `make test` installs.
pytestmark = [pytest.mark.slow, pytest.mark.beside]

CALL = ToolCall(name="get_weather", arguments={"city": "Oslo"}, id="call_1")
CALLING = Script(pieces=(Token(request_id="", tool_calls=(CALL,)),))
OBJECT_CALL = ToolCall(name="Answer", arguments={"number": 4}, id="call_2")

Steps = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def langchain() -> Iterator[Driver]:
    """The process of langchain."""
    with closing(Driver("langchain_openai")) as running:
        yield running


@pytest.fixture(scope="module")
def litellm() -> Iterator[Driver]:
    """The process of litellm."""
    with closing(litellm_driver()) as running:
        yield running


@pytest.fixture
def steps(site: RunningSite, langchain: Driver) -> Steps:
    """Does steps of langchain's driver with a model."""

    def do(model: str, *names: str) -> list[Any]:
        return langchain.do(site.url, site.key, model, names)

    return do


@pytest.fixture
def lite(site: RunningSite, litellm: Driver) -> Steps:
    """Does steps of litellm's driver with a model."""

    def do(model: str, *names: str) -> list[Any]:
        return litellm.do(site.url, site.key, model, names)

    return do


def test_langchain_invokes_streams_and_uses_responses(steps: Steps, model: str) -> None:
    whole, pieces, response = steps(model, "invoke", "stream", "responses")

    assert whole == {"content": "Hello.", "usage": [10, 3, 13]}
    assert [piece for piece in pieces if piece] == ["Hello", "."]
    assert response == "Hello."


def test_langchain_gets_tool_calls(steps: Steps, site: RunningSite, able_model: str) -> None:
    site.node.scripts += [CALLING] * 3
    found = steps(able_model, "tools", "streamed_tools", "forced", "history")

    for [called] in found[:3]:
        assert (called["name"], called["args"]) == ("get_weather", {"city": "Oslo"})
    assert found[3] == "Hello."
    forced, after_result = site.node.got(Generate)[2:]
    assert (forced.forced_tools, forced.most_calls) == (("get_weather",), 1)
    assert isinstance(after_result.prompt, ChatPrompt)
    roles = [message.role for message in after_result.prompt.messages]
    assert roles == ["system", "user", "assistant", "tool"]


def test_langchain_gets_objects(steps: Steps, site: RunningSite, able_model: str) -> None:
    site.node.scripts.append(Script(pieces=('{"number":', " 4}")))
    site.node.scripts.append(Script(pieces=(Token(request_id="", tool_calls=(OBJECT_CALL,)),)))
    by_schema, by_call = steps(able_model, "structured", "structured_by_call")
    schema_asked, call_asked = site.node.got(Generate)

    assert by_schema == by_call == {"number": 4}
    assert '"number"' in schema_asked.json_schema
    assert call_asked.forced_tools == ("Answer",)


def test_langchain_continues_a_text_and_embeds(steps: Steps, site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script())
    text, texts, tokens = steps(model, "completion", "embeddings", "token_embeddings")

    assert text == "Hello."
    assert [len(vector) for vector in texts] == [FAKE_WIDTH] * 3
    assert texts[0] == texts[2] != texts[1]
    assert [len(vector) for vector in tokens] == [FAKE_WIDTH] * 2


def test_litellm_asks_streams_and_embeds(lite: Steps, model: str) -> None:
    names = ("completion", "stream", "text", "embeddings")
    whole, pieces, text, vectors = lite(model, *names)

    assert whole == {"content": "Hello.", "total": 13}
    assert "".join(piece for piece in pieces if piece) == "Hello."
    assert text == "Hello."
    assert [len(vector) for vector in vectors] == [FAKE_WIDTH] * 2


def test_litellm_gets_a_tool_call(lite: Steps, site: RunningSite, able_model: str) -> None:
    site.node.scripts.append(CALLING)

    assert lite(able_model, "tools") == [["get_weather", {"city": "Oslo"}]]


def test_both_say_that_a_model_is_missing(steps: Steps, lite: Steps, model: str) -> None:
    for kind, text in steps(model, "missing") + lite(model, "missing"):
        # langchain adds to the name of the SDK's class.
        assert "NotFoundError" in kind
        assert "nope" in text
