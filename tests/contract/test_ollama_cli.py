"""The calls of the `ollama` command, replayed on a listening site."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.messages import FailureCode, Generate
from tests.contract.conftest import RunningSite
from tests.contract.ollama_cli import CliError, OllamaCli
from tests.fakes.engine import Script
from tests.gguf_files import write_tiny_model


@pytest.fixture
def cli(site: RunningSite) -> Iterator[OllamaCli]:
    with OllamaCli(site.url, site.key) as cli:
        yield cli


def test_run_prints_the_answer(cli: OllamaCli, model: str) -> None:
    assert cli.run(model, "Hello") == "Hello."


def test_conversation_carries_its_history(cli: OllamaCli, site: RunningSite, model: str) -> None:
    assert cli.chat(model, "Hello", "And?") == ["Hello.", "Hello."]

    prompts: list[Any] = [request.prompt for request in site.node.got(Generate)]
    assert [len(prompt.messages) for prompt in prompts] == [1, 3]


def test_run_of_a_missing_model_says_so_before_anything_is_loaded(
    cli: OllamaCli, site: RunningSite
) -> None:
    with pytest.raises(CliError, match="model 'nope:latest' not found"):
        cli.run("nope", "Hello")

    assert site.node.got(Generate) == []


def test_failure_in_mid_stream_is_printed(cli: OllamaCli, site: RunningSite, model: str) -> None:
    failing = Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    site.node.scripts.extend([Script(), failing])

    with pytest.raises(CliError, match="gone"):
        cli.run(model, "Hello")


def test_create_sends_files_once(cli: OllamaCli, tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path / "new.gguf", seed=1)
    for name in ("mine", "again"):
        statuses = cli.create(name, {"model.gguf": file}, system="Be.")
        assert statuses[-1] == "success"

    assert len(cli.uploaded) == 1
    assert cli.show("again")["system"] == "Be."


def test_create_from_a_model(cli: OllamaCli, model: str) -> None:
    parameters = {"temperature": 0.5, "stop": ["a"]}
    fields = {"from": model, "parameters": parameters, "license": ["L"], "messages": None}
    assert cli.create("mario", {}, **fields)[-1] == "success"

    assert cli.show("mario")["license"] == "L"
    assert len(cli.list_models()) == 2


def test_ps_stop_and_remove(cli: OllamaCli, model: str) -> None:
    cli.copy(model, "backup")
    cli.run("backup", "Hello")
    assert len(cli.ps()) == 1

    cli.remove("backup")
    assert cli.ps() == []
    with pytest.raises(CliError, match="not found"):
        cli.show("backup")


def test_remove_of_a_missing_model_says_so(cli: OllamaCli, site: RunningSite) -> None:
    with pytest.raises(CliError, match="model 'nope' not found"):
        cli.remove("nope")
