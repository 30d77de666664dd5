"""langchain-ollama and the `llm` command with its plug-in llm-ollama, on a listening site."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inference.messages import Generate, Token, ToolCall
from tests.contract.conftest import RunningSite
from tests.contract.other_clients import Driver, run_llm
from tests.fakes.engine import FAKE_WIDTH, Script

# They run in the clients' own environment, which `make test` installs.
pytestmark = [pytest.mark.slow, pytest.mark.beside]

Step = Callable[..., Any]


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    """The process of langchain."""
    with closing(Driver("langchain")) as running:
        yield running


@pytest.fixture
def langchain(site: RunningSite, driver: Driver) -> Step:
    """Does one step of langchain's driver with a model."""

    def step(name: str, model: str) -> Any:
        return driver.do(site.url, site.key, model, [name])[0]

    return step


@pytest.fixture
def llm(site: RunningSite, tmp_path: Path) -> Callable[..., str]:
    """Runs the command and returns what it prints."""

    def run(*words: str) -> str:
        return run_llm(site.url, site.key, tmp_path / "llm", *words)

    return run


def test_langchain_invokes(langchain: Step, model: str) -> None:
    answer = langchain("invoke", model)

    assert answer["content"] == "Hello."
    assert answer["usage"] == {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}


def test_langchain_streams(langchain: Step, model: str) -> None:
    pieces = langchain("stream", model)

    assert [piece for piece in pieces if piece] == ["Hello", "."]


def test_langchain_gets_a_tool_call(langchain: Step, site: RunningSite, able_model: str) -> None:
    call = ToolCall(name="get_weather", arguments={"city": "Oslo"}, id="call_1")
    site.node.scripts.append(Script(pieces=(Token(request_id="", tool_calls=(call,)),)))
    [called] = langchain("tools", able_model)

    assert (called["name"], called["args"]) == ("get_weather", {"city": "Oslo"})


def test_langchain_sends_a_tools_result_back(
    langchain: Step, site: RunningSite, able_model: str
) -> None:
    assert langchain("history", able_model) == "Hello."

    messages = site.wait_for(Generate).prompt.messages
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool"]
    assert messages[2].tool_calls[0].arguments == {"city": "Oslo"}


def test_langchain_gets_an_object(langchain: Step, site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=('{"number":', " 4}")))

    assert langchain("structured", model) == {"number": 4}
    assert '"number"' in site.wait_for(Generate).json_schema


def test_langchain_keeps_the_reasoning_apart(
    langchain: Step, site: RunningSite, able_model: str
) -> None:
    pieces = (Token(request_id="", thinking="Hm"), Token(request_id="", text="4"))
    site.node.scripts.append(Script(pieces=pieces))

    assert langchain("reasoning", able_model) == ["Hm", "4"]


def test_langchain_continues_a_text(langchain: Step, model: str) -> None:
    assert langchain("completion", model) == "Hello."


def test_langchain_embeds(langchain: Step, model: str) -> None:
    first, _, query = langchain("embeddings", model)

    assert len(first) == FAKE_WIDTH
    assert first == query


def test_langchain_says_that_a_model_is_missing(langchain: Step, model: str) -> None:
    kind, text = langchain("missing", model)

    assert kind == "ResponseError"
    assert "model 'nope' not found" in text


def test_llm_lists_models_with_their_capabilities(llm: Step, able_model: str) -> None:
    printed = llm("ollama", "models")

    assert able_model in printed
    assert "completion, insert, thinking, tools" in printed


def test_llm_prints_the_answer_to_options_and_a_system_text(
    llm: Step, site: RunningSite, model: str
) -> None:
    words = ["-s", "Be short.", "-o", "temperature", "0", "-o", "num_predict", "5"]
    printed = llm("-m", f"ollama/{model}", *words, "Hello")
    request = site.wait_for(Generate)

    assert printed.split() == ["word"] * 5
    assert [message.role for message in request.prompt.messages] == ["system", "user"]
    assert (request.sampling.temperature, request.sampling.num_predict) == (0.0, 5)


def test_llm_asks_for_an_object(llm: Step, site: RunningSite, model: str) -> None:
    llm("-m", f"ollama/{model}", "--no-stream", "--schema", "name, age int", "A dog")

    assert '"age"' in site.wait_for(Generate).json_schema
