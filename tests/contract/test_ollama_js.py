"""The official JavaScript client (npm `ollama`) against a really listening site."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inference.messages import Cancel, FailureCode, Generate, Token, ToolCall
from registry import manifests
from tests.contract.conftest import RunningSite
from tests.contract.other_clients import js_calls
from tests.fakes.engine import FAKE_WIDTH, Script
from tests.fakes.registry import fake_registry
from tests.fakes.upload_registry import upload_registry_in_thread
from tests.gguf_files import write_tiny_model

# They start Node.js, which `make test` installs.
pytestmark = [pytest.mark.slow, pytest.mark.beside]

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
PIXEL = base64.b64encode(b"no picture").decode()

Js = Callable[..., dict[str, Any]]


@pytest.fixture
def js(site: RunningSite) -> Js:
    """Makes one call and returns its outcome."""

    def call(method: str, **request: Any) -> dict[str, Any]:
        abort_after = request.pop("abort_after", None)
        asked = {"method": method, "request": request, "abort_after": abort_after}
        return js_calls(site.url, site.key, [asked])[0]

    return call


def test_version_is_the_one_whose_contract_is_followed(js: Js) -> None:
    assert js("version") == {"value": {"version": "0.33.0"}}


def test_chat_returns_the_answer(js: Js, model: str) -> None:
    answer = js("chat", model=model, messages=HELLO)["value"]

    assert answer["message"] == {"role": "assistant", "content": "Hello."}
    assert (answer["done_reason"], answer["eval_count"]) == ("stop", 3)


def test_chat_streams_the_answer(js: Js, model: str) -> None:
    parts = js("chat", model=model, messages=HELLO, stream=True)["parts"]

    assert [part["message"]["content"] for part in parts] == ["Hello", ".", ""]
    assert [part["done"] for part in parts] == [False, False, True]


def test_generate_streams_the_answer(js: Js, model: str) -> None:
    parts = js("generate", model=model, prompt="Hello", stream=True)["parts"]

    assert [part["response"] for part in parts] == ["Hello", ".", ""]
    assert parts[-1]["context"] == [1, 2, 3]


def test_generate_sends_what_it_is_given(js: Js, site: RunningSite, model: str) -> None:
    js("generate", model=model, prompt="x", system="Be.", options={"seed": 7, "stop": ["a"]})
    request = site.wait_for(Generate)

    assert request.sampling.seed == 7
    assert "a" in request.sampling.stop


def test_empty_prompt_loads_even_in_a_stream(js: Js, model: str) -> None:
    [only] = js("generate", model=model, prompt="", stream=True)["parts"]

    assert (only["done"], only["done_reason"]) == (True, "load")


def test_aborted_stream_cancels_the_generation(js: Js, site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=("a",), is_held=True))
    parts = js("chat", model=model, messages=HELLO, stream=True, abort_after=1)["parts"]

    assert parts[-1] == "aborted"
    site.wait_for(Cancel)


def test_thinking_comes_apart(js: Js, site: RunningSite, able_model: str) -> None:
    pieces = (Token(request_id="", thinking="Hm"), Token(request_id="", text="Hi"))
    site.node.scripts.append(Script(pieces=pieces))
    answer = js("chat", model=able_model, messages=HELLO, think=True)["value"]

    assert answer["message"] == {"role": "assistant", "content": "Hi", "thinking": "Hm"}


def test_tool_call_comes_whole(js: Js, site: RunningSite, able_model: str) -> None:
    call = ToolCall(name="get_weather", arguments={"city": "Oslo"}, id="call_1")
    site.node.scripts.append(Script(pieces=(Token(request_id="", tool_calls=(call,)),)))
    parts = js("chat", model=able_model, messages=HELLO, tools=[TOOL], stream=True)["parts"]
    calls = [call for part in parts for call in part["message"].get("tool_calls", [])]

    assert [call["function"]["name"] for call in calls] == ["get_weather"]
    assert calls[0]["function"]["arguments"] == {"city": "Oslo"}


def test_schema_reaches_the_engine(js: Js, site: RunningSite, model: str) -> None:
    js("chat", model=model, messages=HELLO, format={"type": "object"})

    assert site.wait_for(Generate).json_schema == '{"type":"object"}'


def test_embed_returns_a_vector_for_each_text(js: Js, model: str) -> None:
    found = js("embed", model=model, input=["a", "b"])["value"]["embeddings"]

    assert [len(vector) for vector in found] == [FAKE_WIDTH] * 2


def test_embeddings_returns_one_vector(js: Js, model: str) -> None:
    assert len(js("embeddings", model=model, prompt="a")["value"]["embedding"]) == FAKE_WIDTH


def test_list_show_and_ps_tell_of_the_model(js: Js, model: str) -> None:
    js("generate", model=model, prompt="")
    [listed] = js("list")["value"]["models"]
    [loaded] = js("ps")["value"]["models"]
    shown = js("show", model=model)["value"]

    assert (listed["model"], loaded["model"]) == (model, model)
    assert shown["details"]["family"] == listed["details"]["family"] == "llama"
    assert shown["model_info"]["general.architecture"] == "llama"


def test_create_streams_statuses_to_success(js: Js, model: str) -> None:
    parts = js("create", model="mario", system="You are Mario.", stream=True, **{"from": model})
    shown = js("show", model="mario")["value"]

    assert parts["parts"][-1] == {"status": "success"}
    assert shown["system"] == "You are Mario."


def test_create_without_stream_returns_the_last_status(js: Js, model: str) -> None:
    made = js("create", model="mario", stream=False, **{"from": model})

    assert made == {"value": {"status": "success"}}


def test_create_from_an_uploaded_file(js: Js, site: RunningSite, tmp_path: Path) -> None:
    data = write_tiny_model(tmp_path / "new.gguf", seed=1).read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    # The client itself has no call for this.
    url = f"{site.url}/api/blobs/{digest}"
    headers = {"Authorization": f"Bearer {site.key}"}
    assert httpx2.post(url, content=data, headers=headers, timeout=60).status_code == 201
    made = js("create", model="mine", files={"tiny.gguf": digest})

    assert made == {"value": {"status": "success"}}


def test_copy_then_delete(js: Js, model: str) -> None:
    assert js("copy", source=model, destination="backup") == {"value": {"status": "success"}}
    assert "value" in js("show", model="backup")
    assert js("delete", model="backup") == {"value": {"status": "success"}}
    assert js("show", model="backup")["error"]["status"] == 404


def test_pull_streams_how_far_each_file_is(
    js: Js, job_worker: None, settings: Any, tiny_gguf: Path
) -> None:
    with fake_registry() as remote:
        settings.ALLOWED_REGISTRIES = [f"http://{remote.host}"]
        remote.add_manifest("lab/tiny", [(manifests.MODEL, tiny_gguf.read_bytes())])
        parts = js("pull", model=f"{remote.host}/lab/tiny", stream=True)["parts"]
        absent = js("pull", model=f"{remote.host}/lab/absent")["error"]

    ends = {part["digest"]: part for part in parts if "digest" in part}
    assert (parts[0]["status"], parts[-1]) == ("pulling manifest", {"status": "success"})
    assert set(ends) == set(remote.blobs)
    assert all(part["completed"] == part["total"] for part in ends.values())
    assert absent["status"] == 500
    assert absent["message"] == "pull model manifest: file does not exist"


def test_push_streams_how_far_each_file_is(
    js: Js, job_worker: None, settings: Any, model: str
) -> None:
    with upload_registry_in_thread() as registry:
        settings.ALLOWED_REGISTRIES = [f"http://{registry.host}"]
        name = f"{registry.host}/lab/tiny"
        js("copy", source=model, destination=name)
        parts = js("push", model=name, stream=True)["parts"]

    ends = {part["digest"]: part for part in parts if "digest" in part}
    assert (parts[0]["status"], parts[-1]) == ("retrieving manifest", {"status": "success"})
    assert ends
    assert all(part["completed"] == part["total"] for part in ends.values())


@pytest.mark.parametrize(
    ("method", "request_", "status", "message"),
    [
        ("chat", {"model": "nope", "messages": HELLO}, 404, "model 'nope' not found"),
        ("generate", {"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ("embed", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling'),
        ("show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
        ("delete", {"model": "nope"}, 404, "model 'nope' not found"),
        ("copy", {"source": "nope", "destination": "b"}, 404, 'model "nope" not found'),
        ("chat", {"model": "", "messages": HELLO}, 400, "model is required"),
        ("create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ("generate", {"model": "a b/c/d/e/f", "prompt": "x"}, 400, "invalid model name"),
    ],
)
def test_errors_have_status_and_text(
    js: Js, method: str, request_: dict[str, Any], status: int, message: str
) -> None:
    error = js(method, **request_)["error"]

    assert (error["name"], error["status"]) == ("ResponseError", status)
    assert error["message"].startswith(message)


def test_unreadable_image_is_refused(js: Js, model: str) -> None:
    error = js("generate", model=model, prompt="x", images=[PIXEL])["error"]

    assert error["status"] == 400


def test_late_failure_is_thrown_in_its_words(js: Js, site: RunningSite, model: str) -> None:
    site.node.scripts.append(
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )
    error = js("chat", model=model, messages=HELLO, stream=True)["error"]

    assert "gone" in error["message"]
