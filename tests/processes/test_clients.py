"""Other people's clients and a real model: every process of the site, every process of theirs.

What each client can do in detail is in tests/contract; here it is shown that it works for real.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from registry.starter import starter_file
from tests.contract.ollama_cli import CliError, OllamaCli
from tests.contract.other_clients import Driver, js_calls, run_llm
from tests.processes.running_site import RunningSite

pytestmark = [pytest.mark.slow, pytest.mark.beside]

MODEL = "smollm2:135m"
GREEDY: dict[str, Any] = {"temperature": 0, "seed": 1}
QUESTION: dict[str, Any] = {"role": "user", "content": "What is 2+2?"}
CHATML = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
    "{{ end }}<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    site = RunningSite(tmp_path_factory.mktemp("clients") / "data")
    try:
        site.wait_until_started()
        yield site
        assert site.end(signal.SIGINT) == 0
    finally:
        site.clean_up()


@pytest.fixture
def cli(site: RunningSite) -> Iterator[OllamaCli]:
    with OllamaCli(site.url, site.api_key) as cli:
        yield cli


def _js(site: RunningSite, *calls: tuple[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    asked = [{"method": method, "request": request} for method, request in calls]
    return js_calls(site.url, site.api_key, asked)


def test_ollama_js_generates_chats_and_embeds(site: RunningSite) -> None:
    chat = {"model": MODEL, "messages": [QUESTION], "options": GREEDY}
    generated, streamed, chatted, embedded = _js(
        site,
        ("generate", {"model": MODEL, "prompt": "Hello", "options": GREEDY}),
        ("chat", {**chat, "stream": True}),
        ("chat", chat),
        ("embed", {"model": MODEL, "input": ["a", "b"]}),
    )

    assert generated["value"]["response"] == "Hello."
    said = "".join(part["message"]["content"] for part in streamed["parts"])
    assert said == chatted["value"]["message"]["content"] == "The answer is: 4"
    assert [len(vector) for vector in embedded["value"]["embeddings"]] == [576, 576]


def test_ollama_js_makes_copies_and_deletes_models(site: RunningSite) -> None:
    made, copied, asked, listed, *deleted = _js(
        site,
        ("create", {"model": "js-made", "from": MODEL, "parameters": GREEDY, "stream": True}),
        ("copy", {"source": "js-made", "destination": "js-copy"}),
        ("chat", {"model": "js-copy", "messages": [QUESTION]}),
        ("list", {}),
        ("delete", {"model": "js-made"}),
        ("delete", {"model": "js-copy"}),
        ("show", {"model": "js-copy"}),
    )

    assert made["parts"][-1] == {"status": "success"}
    assert copied == deleted[0] == deleted[1] == {"value": {"status": "success"}}
    assert asked["value"]["message"]["content"] == "The answer is: 4"
    assert {"js-made:latest", "js-copy:latest"} <= {
        one["name"] for one in listed["value"]["models"]
    }
    assert deleted[2]["error"]["status"] == 404


def test_langchain_invokes_streams_embeds_and_gets_an_object(site: RunningSite) -> None:
    steps = ["invoke", "stream", "structured", "embeddings", "missing"]
    with closing(Driver("langchain")) as driver:
        found = driver.do(site.url, site.api_key, MODEL, steps)
    invoked, pieces, made, vectors, missing = found

    assert invoked["content"] == "".join(pieces) == "The answer is: 4"
    assert list(made) == ["number"]
    assert isinstance(made["number"], int)
    assert [len(vector) for vector in vectors] == [576] * 3
    assert "not found" in missing[1]


def test_llm_asks_the_model(site: RunningSite, tmp_path: Path) -> None:
    options = ["-o", "temperature", "0", "-o", "seed", "1"]
    printed = run_llm(
        site.url, site.api_key, tmp_path, "-m", f"ollama/{MODEL}", *options, "What is 2+2?"
    )

    assert printed.strip() == "The answer is: 4"


def test_ollama_command_creates_from_a_file_runs_and_removes(cli: OllamaCli) -> None:
    statuses = cli.create(
        "from-file", {"smol.gguf": starter_file()}, template=CHATML, parameters=GREEDY
    )

    assert statuses[-1] == "success"
    assert cli.chat("from-file", "What is 2+2?") == ["The answer is: 4"]
    assert "from-file:latest" in cli.list_models()
    assert "from-file:latest" in cli.ps()
    # Without a template of its own it is used with the one in the file.
    assert cli.create("bare", {"smol.gguf": starter_file()}, parameters=GREEDY)[-1] == "success"
    assert "4" in cli.chat("bare", "What is 2+2?")[0]
    cli.remove("from-file")
    with pytest.raises(CliError, match="not found"):
        cli.run("from-file", "Hello")
