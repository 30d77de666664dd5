"""One request the whole way: official clients, curl and a real model through every process.

The answers of SmolLM2-135M at temperature 0 are those of a real Ollama 0.33 on the same file,
except where two tokens are nearly equally probable.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import ollama
import openai
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.processes.running_site import RunningSite, wait_for

pytestmark = pytest.mark.slow

MODEL = "smollm2:135m"
GREEDY: dict[str, Any] = {"temperature": 0, "seed": 1}
QUESTION: dict[str, Any] = {"role": "user", "content": "What is 2+2?"}
# The model counts for ever; another story may end while a test is about to do something to it.
ENDLESS: dict[str, Any] = {
    "model": MODEL,
    "prompt": "1, 2, 3,",
    "raw": True,
    "stream": True,
    "options": {"temperature": 0, "num_predict": 3000, "stop": []},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    site = RunningSite(tmp_path_factory.mktemp("journey") / "data", from_nothing=True)
    try:
        site.wait_until_started()
        yield site
        assert site.end(signal.SIGINT) == 0
    finally:
        site.clean_up()


@pytest.fixture
def native(site: RunningSite) -> Iterator[ollama.Client]:
    headers = {"Authorization": f"Bearer {site.api_key}"}
    with ollama.Client(host=site.url, headers=headers) as client:
        yield client


@pytest.fixture
def sdk(site: RunningSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.api_key, max_retries=0) as client:
        yield client


def _curl(site: RunningSite, path: str, body: str, *, with_key: bool = True) -> str:
    key = ["-H", f"Authorization: Bearer {site.api_key}"] if with_key else []
    command = ["curl", "-sS", *key, f"{site.url}{path}", "-d", body]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _runner_pids(site: RunningSite) -> list[int]:
    return [pid for pid, line in site.processes().items() if "inference.engine.runner" in line]


def test_the_seeds_curl_line_for_generate_streams_objects(site: RunningSite) -> None:
    body = json.dumps({"model": MODEL, "prompt": "Hello", "options": GREEDY})
    lines = [json.loads(line) for line in _curl(site, "/api/generate", body).splitlines()]
    assert "".join(line["response"] for line in lines) == "Hello."
    assert [line["done"] for line in lines] == [False, False, True]
    assert lines[-1]["done_reason"] == "stop"
    assert lines[-1]["context"] == [1, 4093, 198, 19556, 2, 198, 1, 520, 9531, 198, 19556, 30]


def test_the_seeds_curl_line_for_chat_without_stream_is_one_object(site: RunningSite) -> None:
    body = {"model": MODEL, "messages": [QUESTION], "stream": False, "options": GREEDY}
    answer = json.loads(_curl(site, "/api/chat", json.dumps(body)))
    assert answer["message"] == {"role": "assistant", "content": "The answer is: 4"}
    assert answer["prompt_eval_count"] == 16
    assert answer["eval_count"] == 7


def test_the_seeds_curl_line_for_openai_chat(site: RunningSite) -> None:
    body = {"model": MODEL, "messages": [QUESTION], **GREEDY}
    answer = json.loads(_curl(site, "/v1/chat/completions", json.dumps(body)))
    assert answer["choices"][0]["message"]["content"] == "The answer is: 4"
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        16,
        7,
        23,
    )
    # Whether the question was asked before depends on the order of the tests.
    assert usage.get("prompt_tokens_details", {"cached_tokens": 15})["cached_tokens"] <= 15


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/tags", "/api/nope"])
def test_without_a_key_the_native_dialect_says_unauthorized(site: RunningSite, path: str) -> None:
    assert json.loads(_curl(site, path, "{}", with_key=False)) == {"error": "unauthorized"}


def test_without_a_key_the_openai_dialect_says_so_in_its_shape(site: RunningSite) -> None:
    answer = json.loads(_curl(site, "/v1/chat/completions", "{}", with_key=False))
    assert answer["error"]["code"] == "invalid_api_key"


def test_ollama_python_chats_generates_lists_and_shows(native: ollama.Client) -> None:
    answer = native.chat(model=MODEL, messages=[QUESTION], options=GREEDY)
    assert answer.message.content == "The answer is: 4"
    parts = list(native.chat(model=MODEL, messages=[QUESTION], options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "The answer is: 4"
    assert parts[-1].done_reason == "stop"
    assert parts[-1].load_duration
    whole = native.generate(model=MODEL, prompt="Hello", options=GREEDY)
    assert whole.response == "Hello."
    raw = native.generate(
        model=MODEL, prompt="Once upon a time", raw=True, options={**GREEDY, "num_predict": 8}
    )
    # What comes next is a near tie, which kernels of different processors decide differently.
    assert (raw.response or "").startswith(", the city of N")
    assert [model.model for model in native.list().models] == [MODEL]
    assert native.ps().models[0].model == MODEL
    shown = native.show(MODEL)
    assert shown.details
    assert shown.details.quantization_level == "Q4_1"
    assert shown.capabilities == ["completion"]


def test_ollama_python_goes_on_from_a_context(native: ollama.Client) -> None:
    first = native.generate(model=MODEL, prompt="Hello", options=GREEDY)
    second = native.generate(model=MODEL, prompt="Why?", context=first.context, options=GREEDY)
    assert second.prompt_eval_count
    assert first.context
    assert second.prompt_eval_count > len(first.context)


def test_ollama_python_raises_what_the_server_says(site: RunningSite) -> None:
    with (
        ollama.Client(host=site.url) as stranger,
        pytest.raises(ollama.ResponseError, match="unauthorized") as refusal,
    ):
        stranger.list()
    assert refusal.value.status_code == 401


def test_openai_python_chats_streaming_and_not(sdk: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": MODEL, "messages": [QUESTION], **GREEDY}
    answer = sdk.chat.completions.create(**options)
    assert answer.choices[0].message.content == "The answer is: 4"
    assert answer.choices[0].finish_reason == "stop"
    chunks = list(
        sdk.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "The answer is: 4"
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 7
    assert [model.id for model in sdk.models.list()] == [MODEL]
    assert sdk.models.retrieve(MODEL).owned_by == "library"


def test_openai_python_raises_its_own_errors(site: RunningSite, sdk: openai.OpenAI) -> None:
    messages: Any = [QUESTION]
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        sdk.chat.completions.create(model="nope", messages=messages)
    with pytest.raises(openai.BadRequestError, match="too short"):
        sdk.chat.completions.create(model=MODEL, messages=[])
    with (
        sdk.with_options(api_key="sk-wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_killing_the_runner_ends_that_answer_in_words_and_the_next_works(
    site: RunningSite, native: ollama.Client
) -> None:
    stream = native.generate(**ENDLESS)
    next(iter(stream))
    [pid] = _runner_pids(site)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ollama.ResponseError, match="model runner has unexpectedly stopped"):
        for _part in stream:
            pass
    answer = native.chat(model=MODEL, messages=[QUESTION], options=GREEDY)
    assert answer.message.content == "The answer is: 4"
    assert _runner_pids(site) != [pid]


def test_killing_the_runner_is_an_error_event_for_the_openai_sdk(
    site: RunningSite, sdk: openai.OpenAI
) -> None:
    messages: Any = [{"role": "user", "content": "Tell me a long story"}]
    never = {"0": -100, "2": -100}  # the ends of texts and of answers
    stream = sdk.chat.completions.create(
        model=MODEL, messages=messages, seed=3, stream=True, max_tokens=3000, logit_bias=never
    )
    next(iter(stream))
    [pid] = _runner_pids(site)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="model runner has unexpectedly stopped"):
        for _chunk in stream:
            pass


def test_killing_the_runner_under_16_users_ends_every_answer_once(
    site: RunningSite, native: ollama.Client
) -> None:
    native.generate(model=MODEL, prompt="")  # loaded
    [pid] = _runner_pids(site)
    has_begun = threading.Event()

    def answer(number: int) -> list[str]:
        """Return how an answer ended: the last lines of its stream."""
        headers = {"Authorization": f"Bearer {site.api_key}"}
        body = {**ENDLESS, "prompt": f"{number}, {number + 1}, {number + 2},"}
        body["options"] = {**ENDLESS["options"], "num_predict": 100}
        with (
            httpx2.Client(base_url=site.url, headers=headers, timeout=120) as client,
            client.stream("POST", "/api/generate", json=body) as stream,
        ):
            lines = []
            for line in stream.iter_lines():
                lines.append(json.loads(line))
                has_begun.set()
        return [line.get("error", "done") for line in lines if "error" in line or line["done"]]

    with ThreadPoolExecutor(16) as pool:
        running = [pool.submit(answer, number) for number in range(16)]
        assert has_begun.wait(120)  # some are answered, the others wait
        os.kill(pid, signal.SIGKILL)
        ends = [future.result() for future in running]
    assert all(len(end) == 1 for end in ends)
    crashed = [end for [end] in ends if "model runner has unexpectedly stopped" in end]
    done = [end for [end] in ends if end == "done"]
    assert crashed  # those that were running
    assert len(done) == 16 - len(crashed)  # those that waited got a new runner


def test_clients_who_leave_free_their_slots_within_a_second(
    site: RunningSite, native: ollama.Client
) -> None:
    native.generate(model=MODEL, prompt="")  # loaded
    headers = {"Authorization": f"Bearer {site.api_key}"}
    with httpx2.Client(base_url=site.url, headers=headers, timeout=60) as client:
        for _ in range(4):  # every slot
            with client.stream("POST", "/api/generate", json=ENDLESS) as answer:
                next(answer.iter_lines())
                # The next one joins while the first is still answered, then all leave.
    started_s = time.monotonic()
    native.generate(model=MODEL, prompt="Hello", options={**GREEDY, "num_predict": 1})
    # On a busy machine too; whoever had to wait for an answer that goes on would wait for longer.
    assert time.monotonic() - started_s < 10


def test_keep_alive_zero_unloads_the_model(site: RunningSite, native: ollama.Client) -> None:
    answer = native.generate(model=MODEL, prompt="Hello", options=GREEDY, keep_alive=0)
    assert answer.response == "Hello."
    wait_for(lambda: not native.ps().models and not _runner_pids(site))
    assert native.generate(model=MODEL, prompt="Hello", options=GREEDY).response == "Hello."


def test_a_signed_in_browser_chats_over_the_websocket(site: RunningSite) -> None:
    with httpx2.Client(base_url=site.url, follow_redirects=False, timeout=60) as browser:
        browser.get("/signin", headers={"Accept": "text/html"})
        answer = browser.post(
            "/signin",
            data={
                "username": "admin",
                "password": _printed_password(site),
                "csrfmiddlewaretoken": browser.cookies["csrftoken"],
            },
        )
        assert answer.status_code == 302
        cookie = f"ollamasite_session={browser.cookies['ollamasite_session']}"
    question = {"type": "chat", "id": "a", "model": MODEL, "messages": [QUESTION]}
    with connect(
        f"{site.url.replace('http', 'ws')}/ws/chat",
        origin=Origin(site.url),
        additional_headers={"Cookie": cookie},
        open_timeout=60,
    ) as socket:
        socket.send(json.dumps({**question, "options": GREEDY}))
        frames = [json.loads(socket.recv(timeout=60))]
        while frames[-1]["type"] == "token":
            frames.append(json.loads(socket.recv(timeout=60)))
    assert "".join(frame["text"] for frame in frames[:-1]) == "The answer is: 4"
    assert frames[-1]["type"] == "done"


def _printed_password(site: RunningSite) -> str:
    line = next(line for line in site.output.splitlines() if "password" in line)
    return line.split()[-1]


def test_many_clients_at_once_each_get_their_own_answer(site: RunningSite) -> None:
    bodies = {
        "Hello": "Hello.",
        "What is 2+2?": "The answer is: 4",
    }
    running = []
    for prompt in [*bodies] * 4:
        body = {"model": MODEL, "prompt": prompt, "stream": False, "options": GREEDY}
        command = ["curl", "-sS", "-H", f"Authorization: Bearer {site.api_key}"]
        command += [f"{site.url}/api/generate", "-d", json.dumps(body)]
        running.append((prompt, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
    for prompt, process in running:
        out, _ = process.communicate(timeout=120)
        assert json.loads(out)["response"] == bodies[prompt]
