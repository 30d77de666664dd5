"""Every method of the official Python client, of `Client` and `AsyncClient`, on a listening site.

What leaves in mid-stream is in test_ollama_client.py.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import ollama
import pydantic
import pytest

from inference.messages import Generate, Token, ToolCall
from registry import manifests
from tests.contract.conftest import RunningSite
from tests.fakes.engine import FAKE_WIDTH, Script
from tests.fakes.registry import fake_registry
from tests.fakes.upload_registry import upload_registry_in_thread

HELLO: Final = [{"role": "user", "content": "Hello"}]
# Not this server's: the client sends them to another host, or they are newer than its contract.
_ELSEWHERE: Final = frozenset({"web_search", "web_fetch", "systemone", "close"})

Ask = Callable[..., Any]


# Both are one client to the server: the fast tests ask with one of them.
@pytest.fixture(
    params=["Client", pytest.param("AsyncClient", marks=[pytest.mark.slow, pytest.mark.beside])]
)
def ask(site: RunningSite, request: pytest.FixtureRequest) -> Ask:
    """Calls a method of either client and returns its answer, a stream as a list."""
    place: dict[str, Any] = {
        "host": site.url,
        "headers": {"Authorization": f"Bearer {site.key}"},
    }

    def of_client(method: str, *args: Any, **named: Any) -> Any:
        with ollama.Client(**place) as client:
            answer = getattr(client, method)(*args, **named)
            return list(answer) if inspect.isgenerator(answer) else answer

    async def of_async_client(method: str, *args: Any, **named: Any) -> Any:
        async with ollama.AsyncClient(**place) as client:
            answer = await getattr(client, method)(*args, **named)
            return [part async for part in answer] if inspect.isasyncgen(answer) else answer

    def run(method: str, *args: Any, **named: Any) -> Any:
        return asyncio.run(of_async_client(method, *args, **named))

    return of_client if request.param == "Client" else run


def get_weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: Name of the city
        days: How many days ahead
    """
    return f"{city}: {days}"


class Person(pydantic.BaseModel):
    """What an answer may be asked to be."""

    name: str
    age: int


@pytest.mark.parametrize("kind", [ollama.Client, ollama.AsyncClient])
def test_every_method_of_the_client_is_tested_here(kind: type) -> None:
    methods = {
        name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
    }
    source = inspect.getsource(inspect.getmodule(test_chat) or object)

    untested = {name for name in methods if f'ask("{name}"' not in source}
    assert untested == _ELSEWHERE


def test_chat(ask: Ask, model: str) -> None:
    answer = ask("chat", model, HELLO, options={"temperature": 0}, keep_alive="5m")

    assert answer.message.content == "Hello."
    assert answer.prompt_eval_count == 10


def test_chat_in_a_stream(ask: Ask, model: str) -> None:
    parts = ask("chat", model, HELLO, stream=True)

    assert "".join(part.message.content for part in parts) == "Hello."
    assert parts[-1].done_reason == "stop"


def test_python_function_as_a_tool(ask: Ask, site: RunningSite, able_model: str) -> None:
    call = ToolCall(name="get_weather", arguments={"city": "Oslo", "days": 2}, id="call_1")
    site.node.scripts.append(Script(pieces=(Token(request_id="", tool_calls=(call,)),)))
    [called] = ask("chat", able_model, HELLO, tools=[get_weather]).message.tool_calls

    assert get_weather(**called.function.arguments) == "Oslo: 2"


def test_result_of_a_tool_goes_back(ask: Ask, site: RunningSite, able_model: str) -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
    messages = [
        *HELLO,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_name": "get_weather"},
    ]
    answer = ask("chat", able_model, messages, tools=[get_weather])

    assert answer.message.content == "Hello."
    assert site.wait_for(Generate).prompt.messages[-1].content == "rain"


def test_thinking_of_a_chat(ask: Ask, site: RunningSite, able_model: str) -> None:
    pieces = (Token(request_id="", thinking="Hm"), Token(request_id="", text="Hi"))
    site.node.scripts.append(Script(pieces=pieces))
    message = ask("chat", able_model, HELLO, think=True).message

    assert (message.thinking, message.content) == ("Hm", "Hi")


def test_thinking_of_a_generate_in_a_stream(ask: Ask, site: RunningSite, able_model: str) -> None:
    pieces = (Token(request_id="", thinking="Hm"), Token(request_id="", text="Hi"))
    site.node.scripts.append(Script(pieces=pieces))
    parts = ask("generate", able_model, "Hello", think="low", stream=True)

    assert [(part.thinking, part.response) for part in parts[:2]] == [("Hm", ""), (None, "Hi")]


def test_schema_of_a_pydantic_class(ask: Ask, site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=('{"name":"Ann",', '"age":3}')))
    answer = ask("chat", model, HELLO, format=Person.model_json_schema())

    assert Person.model_validate_json(answer.message.content) == Person(name="Ann", age=3)
    assert '"required":["name","age"]' in site.wait_for(Generate).json_schema


def test_generate(ask: Ask, model: str) -> None:
    answer = ask("generate", model, "Hello", system="Be.", logprobs=False, options={"seed": 1})

    assert (answer.response, answer.done) == ("Hello.", True)
    assert list(answer.context) == [1, 2, 3]


def test_generate_goes_on_from_a_context(ask: Ask, site: RunningSite, model: str) -> None:
    first = ask("generate", model, "Hello")
    site.node.received.clear()
    ask("generate", model, "Why?", context=first.context)

    assert tuple(site.wait_for(Generate).prompt.context) == (1, 2, 3)


def test_generate_fills_in(ask: Ask, able_model: str) -> None:
    assert ask("generate", able_model, "def f(", "return 1").response == "Hello."


def test_generate_loads_and_unloads(ask: Ask, model: str) -> None:
    assert ask("generate", model).done_reason == "load"
    assert ask("generate", model, keep_alive=0).done_reason == "unload"
    assert ask("ps").models == []


def test_embed(ask: Ask, model: str) -> None:
    found = ask("embed", model, ["a", "b"], truncate=True, dimensions=4)

    assert [len(vector) for vector in found.embeddings] == [4, 4]


def test_embeddings(ask: Ask, model: str) -> None:
    assert len(ask("embeddings", model, "a").embedding) == FAKE_WIDTH


def test_list(ask: Ask, model: str) -> None:
    [listed] = ask("list").models

    assert (listed.model, listed.details.format) == (model, "gguf")
    assert len(listed.digest) == 64
    assert listed.modified_at is not None


def test_show(ask: Ask, able_model: str) -> None:
    shown = ask("show", able_model)

    assert shown.modelinfo["general.architecture"] == "llama"
    assert {"completion", "tools", "thinking", "insert"} <= set(shown.capabilities)


def test_ps(ask: Ask, model: str) -> None:
    ask("generate", model)
    [loaded] = ask("ps").models

    assert (loaded.model, loaded.context_length) == (model, 4096)


def test_create_from_a_model(ask: Ask, model: str) -> None:
    fields: Mapping[str, Any] = {
        "system": "You are Mario.",
        "template": "{{ .System }} {{ .Prompt }}",
        "license": ["One", "Two"],
        "parameters": {"temperature": 0.5, "stop": ["a", "b"]},
        "messages": [{"role": "user", "content": "Hi"}],
    }
    made = ask("create", "mario", from_=model, **fields)
    shown = ask("show", "mario")

    assert made.status == "success"
    assert (shown.template, shown.license) == ("{{ .System }} {{ .Prompt }}", "One\nTwo")
    assert "temperature" in shown.parameters


def test_create_in_a_stream(ask: Ask, model: str) -> None:
    parts = ask("create", "mario", from_=model, system="x", stream=True)

    assert [part.status for part in parts][-2:] == ["writing manifest", "success"]


def test_pull(ask: Ask, job_worker: None, settings: Any, tiny_gguf: Path) -> None:
    with fake_registry() as remote:
        settings.ALLOWED_REGISTRIES = [f"http://{remote.host}"]
        remote.add_manifest("lab/tiny", [(manifests.MODEL, tiny_gguf.read_bytes())])
        name = f"{remote.host}/lab/tiny"
        whole = ask("pull", name)
        parts = ask("pull", name, stream=True)

        assert whole.status == "success"
        assert (parts[0].status, parts[-1].status) == ("pulling manifest", "success")
        assert {part.digest for part in parts if part.digest} == set(remote.blobs)
        with pytest.raises(ollama.ResponseError, match="file does not exist") as caught:
            ask("pull", f"{remote.host}/lab/absent")
    assert caught.value.status_code == 500


def test_push(ask: Ask, job_worker: None, settings: Any, model: str) -> None:
    with upload_registry_in_thread() as registry:
        settings.ALLOWED_REGISTRIES = [f"http://{registry.host}"]
        name = f"{registry.host}/lab/tiny"
        ask("copy", model, name)
        whole = ask("push", name)
        parts = ask("push", name, stream=True)

        assert whole.status == "success"
        assert (parts[0].status, parts[-1].status) == ("retrieving manifest", "success")
        assert list(registry.manifests) == ["/v2/lab/tiny/manifests/latest"]


def test_create_blob_and_a_model_of_it(ask: Ask, tiny_gguf: Path) -> None:
    digest = ask("create_blob", tiny_gguf)
    made = ask("create", "mine", files={tiny_gguf.name: digest})

    assert made.status == "success"
    assert ask("show", "mine").details.format == "gguf"


def test_copy(ask: Ask, model: str) -> None:
    assert ask("copy", model, "backup").status == "success"
    assert ask("show", "backup").details.family == "llama"


def test_delete(ask: Ask, model: str) -> None:
    ask("copy", model, "backup")

    assert ask("delete", "backup").status == "success"
    with pytest.raises(ollama.ResponseError, match="not found"):
        ask("show", "backup")


@pytest.mark.parametrize(
    ("method", "args", "status", "text"),
    [
        ("chat", ("nope", HELLO), 404, "model 'nope' not found"),
        ("generate", ("nope", "x"), 404, "model 'nope' not found"),
        ("embed", ("nope", "x"), 404, 'model "nope" not found, try pulling it first'),
        ("embeddings", ("nope", "x"), 404, 'model "nope" not found, try pulling it first'),
        ("show", ("nope",), 404, "model 'nope:latest' not found"),
        ("delete", ("nope",), 404, "model 'nope' not found"),
        ("copy", ("nope", "b"), 404, 'model "nope" not found'),
    ],
)
def test_missing_model_raises_each_endpoints_words(
    ask: Ask, method: str, args: tuple[Any, ...], status: int, text: str
) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        ask(method, *args)

    assert (caught.value.status_code, caught.value.error) == (status, text)


def test_bytes_that_are_no_image_are_refused(ask: Ask, model: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        ask("generate", model, "What is this?", images=[b"no picture"])

    assert caught.value.status_code == 400


def test_thinking_of_a_model_without_it_is_refused(ask: Ask, model: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        ask("chat", model, HELLO, think=True)

    assert (caught.value.status_code, caught.value.error) == (
        400,
        f'"{model}" does not support thinking',
    )


def test_tools_of_a_model_without_them_are_refused(ask: Ask, model: str) -> None:
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        ask("chat", model, HELLO, tools=[get_weather])


@pytest.mark.parametrize("keep_alive", [-1, 0, 2.5, "10m", "-1m"])
def test_keep_alive_in_every_form(ask: Ask, model: str, keep_alive: float | str) -> None:
    assert ask("generate", model, "Hello", keep_alive=keep_alive).response == "Hello."


def test_wrong_keep_alive_is_refused(ask: Ask, model: str) -> None:
    with pytest.raises(ollama.ResponseError, match="missing unit in duration"):
        ask("generate", model, "Hello", keep_alive="300")
