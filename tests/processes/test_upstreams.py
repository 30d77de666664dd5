"""A really started site in front of a real engine elsewhere: llama.cpp's own server.

Official clients ask the site; the engine itself is asked beside it, so that counts and vectors can
be compared. `xllamacpp` is a prebuilt wheel with that server.
"""

import base64
import concurrent.futures
import contextlib
import http.client
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ollama
import openai
import pytest

from registry.starter import starter_file
from tests.processes.running_site import RunningSite, free_port, wait_for
from tests.vision_files import PATCHES, write_image, write_projector, write_text_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.beside,
    pytest.mark.timeout(900),
]

SERVER: Final = Path(__file__).with_name("upstream_server.py")
KEY: Final = "sk-of-the-engine"
PATIENCE_S: Final = 180.0
# Each test has people of its own: their order is another one each time.
USERS: Final = (
    *("reader", "writer", "seer", "leaver", "patient", "poor"),
    *("heavy", "light1", "light2", "light3", "caller", "thinker", "looker", "maker"),
)
TOKENS_A_DAY: Final = 60  # of the poor
COUNT: Final = "1, 2, 3, 4, 5,"
# Each model's name here, its engine and what it can do.
MODELS: Final = (
    ("far-chat", "chat", ("completion",)),
    ("far-tools", "chat", ("completion", "tools")),
    ("far-thinks", "chat", ("completion", "thinking")),
    ("far-embed", "embed", ("embedding",)),
    ("far-sees", "see", ("completion", "vision")),
)
WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
# What an administrator does on pages, in one process.
SET_UP: Final = """
from models_app import accounts, keys, limit_rules
from models_app.models import User
from models_app.upstreams import UpstreamSettings
from registry.upstreams import NewServed, add_upstream, serve_model
for name, port in {ports}:
    url = f"http://127.0.0.1:{{port}}/v1"
    settings = UpstreamSettings(url=url, kind="llama.cpp", concurrency=2, key="{key}")
    add_upstream(None, name, settings)
for name, engine, can in {models}:
    serve_model(None, NewServed(upstream=engine, model="smol", name=name,
                                capabilities=can, context_length=1024))
for name in {users}:
    accounts.create_user(name, "a quiet evening walk")
    print("key", name, keys.create_key(User.objects.get(username=name), "test")[1])
limit_rules.put_rule(None, limit_rules.NewRule(
    subject="user", name="poor", unit="tokens", period="day", amount={tokens_a_day}))
"""


class Engine:
    """llama.cpp's server with SmolLM2, or another model."""

    def __init__(self, log: Path, *flags: str, model: Path | None = None) -> None:
        self.port = free_port()
        self._log = log
        self._model = model or starter_file()
        self._flags = flags
        self.start()

    def start(self) -> None:
        """Start the process; it answers when its model is loaded."""
        command = [sys.executable, str(SERVER), str(self._model), str(self.port), KEY]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, *self._flags], stdout=log, stderr=subprocess.STDOUT
            )

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        wait_for(self.is_up, PATIENCE_S)

    def is_up(self) -> bool:
        """Whether its model is loaded."""
        assert self.process.poll() is None, self._log.read_text()[-2000:]
        try:
            return bool(self.ask("GET", "/health") == {"status": "ok"})
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the engine itself."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    @property
    def busy_slots(self) -> int:
        """How many requests it computes."""
        return sum(slot["is_processing"] for slot in self.ask("GET", "/slots"))

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Place:
    """The site, its engines and the keys of its people."""

    site: RunningSite
    chat: Engine
    embed: Engine
    see: Engine
    keys: dict[str, str]
    clients: contextlib.ExitStack

    def openai(self, user: str) -> openai.OpenAI:
        client = openai.OpenAI(
            base_url=f"{self.site.url}/v1",
            api_key=self.keys[user],
            timeout=PATIENCE_S,
            max_retries=0,
        )
        return self.clients.enter_context(client)

    def ollama(self, user: str) -> ollama.Client:
        headers = {"authorization": f"Bearer {self.keys[user]}"}
        client = ollama.Client(host=self.site.url, headers=headers, timeout=PATIENCE_S)
        self.clients.callback(client.close)
        return client

    def get(self, user: str, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=PATIENCE_S)
        headers = {"authorization": f"Bearer {self.keys[user]}"}
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            return json.loads(connection.getresponse().read())

    def rows(self, user: str) -> list[Any]:
        """Return what the ledger has of somebody, the newest first."""
        found: list[Any] = self.get(user, "/api/usage/requests")["requests"]
        return found

    def newest_row(self, user: str, count: int) -> Any:
        """Wait until the ledger has so many rows of somebody; return the newest."""
        wait_for(lambda: len(self.rows(user)) >= count, PATIENCE_S)
        rows = self.rows(user)
        assert len(rows) == count
        return rows[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("upstreams")
    seeing = write_text_model(folder / "text.gguf"), write_projector(folder / "mmproj.gguf")
    engines = {
        "chat": Engine(folder / "chat.log"),
        "embed": Engine(folder / "embed.log", "embed"),
        "see": Engine(folder / "see.log", f"see={seeing[1]}", model=seeing[0]),
    }
    site = RunningSite(folder / "data", "--no-starter-model")
    try:
        site.wait_until_started()
        for engine in engines.values():
            engine.wait_until_up()
        keys = _set_up(site, engines)
        with contextlib.ExitStack() as clients:
            yield Place(site=site, keys=keys, clients=clients, **engines)
        assert site.end() == 0
    finally:
        site.clean_up()
        for engine in engines.values():
            engine.kill()


def _set_up(site: RunningSite, engines: dict[str, Engine]) -> dict[str, str]:
    ports = [(name, engine.port) for name, engine in engines.items()]
    text = SET_UP.format(
        ports=ports, models=MODELS, key=KEY, users=USERS, tokens_a_day=TOKENS_A_DAY
    )
    command = [sys.executable, "-m", "ollamasite", "shell", "-c", text]
    told = subprocess.run(
        [*command, "--data-dir", str(site.data_dir)],
        env=site.environ,
        capture_output=True,
        check=False,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    lines = [line.split() for line in told.stdout.splitlines()]
    return {line[1]: line[2] for line in lines if line[:1] == ["key"]}


def test_official_clients_get_the_engines_answers_with_its_own_counts(place: Place) -> None:
    messages: Any = [{"role": "user", "content": "Say hello"}]
    body = {"messages": messages, "max_tokens": 6, "temperature": 0}
    itself = place.chat.ask("POST", "/v1/chat/completions", body)

    stream = place.openai("reader").chat.completions.create(
        model="far-chat", stream=True, stream_options={"include_usage": True}, **body
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == itself["choices"][0]["message"]["content"]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens == itself["usage"]["prompt_tokens"]
    assert usage.completion_tokens == itself["usage"]["completion_tokens"] == 6

    options = {"num_predict": 6, "temperature": 0}
    answer = place.ollama("reader").chat("far-chat", messages, options=options)
    assert answer.message.content == text
    assert answer.done_reason == "length"
    assert (answer.prompt_eval_count, answer.eval_count) == (usage.prompt_tokens, 6)
    row = place.newest_row("reader", 2)
    assert (row["outcome"], row["tokens_in"], row["tokens_out"]) == ("done", usage.prompt_tokens, 6)


def test_completions_have_logprobs_stop_strings_and_schemas(place: Place) -> None:
    client = place.ollama("writer")
    options: Any = {"num_predict": 10, "temperature": 0}
    plain = client.generate("far-chat", COUNT, raw=True, logprobs=True, options=options)
    body = {"prompt": COUNT, "max_tokens": 10, "temperature": 0, "logprobs": 1}
    itself = place.chat.ask("POST", "/v1/completions", body)["choices"][0]
    assert plain.response is not None
    assert plain.response == itself["text"]
    theirs = [one["logprob"] for one in itself["logprobs"]["content"]]
    assert [one.logprob for one in plain.logprobs or ()] == pytest.approx(theirs, abs=0.2)
    stop = {**options, "stop": ["7"]}
    cut = client.generate("far-chat", COUNT, raw=True, options=stop)
    assert cut.response == plain.response.partition("7")[0]
    assert cut.done_reason == "stop"
    spoken = place.openai("writer").completions.create(model="far-chat", prompt="Hi", max_tokens=2)
    assert spoken.usage is not None
    assert spoken.usage.completion_tokens == 2

    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    options = {"num_predict": 40, "temperature": 0}
    messages = [{"role": "user", "content": "Is it?"}]
    answer = client.chat("far-chat", messages, format=schema, options=options)
    assert isinstance(json.loads(answer.message.content or "")["ok"], bool)


def test_vectors_are_the_engines_normalized(place: Place) -> None:
    texts = ["A cat sits.", "The stock market fell."]
    itself = place.embed.ask("POST", "/v1/embeddings", {"input": texts})
    ours = place.ollama("seer").embed("far-embed", texts)
    for row, told in zip(ours.embeddings, itself["data"], strict=True):
        length = math.hypot(*told["embedding"])
        assert list(row) == pytest.approx([x / length for x in told["embedding"]], abs=0.02)
    assert ours.prompt_eval_count == itself["usage"]["prompt_tokens"]
    assert place.newest_row("seer", 1)["tokens_in"] == ours.prompt_eval_count
    with pytest.raises(ollama.ResponseError, match="does not support chat"):
        place.ollama("seer").chat("far-embed", [{"role": "user", "content": "Hi"}])


def test_who_leaves_frees_the_engine_and_pays_what_was_said(place: Place) -> None:
    options = {"num_predict": 900, "temperature": 0}
    stream = place.ollama("leaver").generate(
        "far-chat", COUNT, raw=True, stream=True, options=options
    )
    next(iter(stream))
    assert place.chat.busy_slots == 1
    stream.close()  # type: ignore[attr-defined] # it is a generator
    wait_for(lambda: not place.chat.busy_slots, PATIENCE_S)
    row = place.newest_row("leaver", 1)
    assert row["outcome"] == "left"
    assert 0 < row["tokens_out"] < 900
    assert row["tokens_in"] > 0


def test_tools_are_called_in_either_dialect_and_their_results_are_read(place: Place) -> None:
    messages = [message for city in ("Rome", "Berlin") for message in _asked_of(city)]
    messages.append({"role": "user", "content": "Weather in Paris?"})
    options = {"num_predict": 80, "temperature": 0}
    client = place.ollama("caller")
    answer = client.chat("far-tools", _natively(messages), tools=[WEATHER], options=options)
    [call] = answer.message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})

    body: Any = {"messages": messages, "tools": [WEATHER], "max_tokens": 80, "temperature": 0}
    itself = place.chat.ask("POST", "/v1/chat/completions", body)
    [theirs] = itself["choices"][0]["message"]["tool_calls"]
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        stream = place.openai("caller").chat.completions.create(
            model="far-tools",
            stream=True,
            tool_choice=choice,
            stream_options={"include_usage": True},
            **body,
        )
        chunks = list(stream)
        parts = [part for c in chunks if c.choices for part in c.choices[0].delta.tool_calls or []]
        told = "".join(p.function.arguments or "" for p in parts if p.function)
        assert json.loads(told) == json.loads(theirs["function"]["arguments"])
        assert parts[0].id
        assert "tool_calls" in {c.choices[0].finish_reason for c in chunks if c.choices}
        usage = chunks[-1].usage
        assert usage is not None
        assert usage.prompt_tokens == itself["usage"]["prompt_tokens"]


def _asked_of(city: str) -> list[dict[str, Any]]:
    """Return a conversation that a small model goes on with in the same way."""
    arguments = json.dumps({"city": city})
    function = {"name": "get_weather", "arguments": arguments}
    call = {"id": f"call-{city}", "type": "function", "function": function}
    return [
        {"role": "user", "content": f"Weather in {city}?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
        {"role": "assistant", "content": "Sunny."},
    ]


def _natively(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages as Ollama's dialect has them: arguments are objects, calls need no id."""
    shaped = []
    for message in messages:
        one = {name: value for name, value in message.items() if name != "tool_call_id"}
        if calls := message.get("tool_calls"):
            function = calls[0]["function"]
            arguments = json.loads(function["arguments"])
            one["tool_calls"] = [{"function": {**function, "arguments": arguments}}]
        shaped.append(one)
    return shaped


def test_thinking_comes_apart_from_the_answer_and_is_left_out_where_nobody_wants_it(
    place: Place,
) -> None:
    client = place.ollama("thinker")
    options = {"num_predict": 6, "temperature": 0}
    messages = [{"role": "user", "content": "Say hello"}]
    # SmolLM2 has never learnt to end its thoughts.
    stream = client.chat("far-thinks", messages, think=True, stream=True, options=options)
    chunks = list(stream)
    assert "".join(chunk.message.thinking or "" for chunk in chunks)
    assert not "".join(chunk.message.content or "" for chunk in chunks)
    plain = client.chat("far-thinks", messages, think=False, options=options)
    assert plain.message.content
    assert not plain.message.thinking
    spoken = place.openai("thinker").chat.completions.create(
        model="far-thinks",
        messages=[{"role": "user", "content": "Say hello"}],
        reasoning_effort="none",
        max_tokens=6,
        temperature=0,
    )
    assert spoken.choices[0].message.content == plain.message.content


def test_images_are_seen_by_the_engine(place: Place) -> None:
    picture = write_image("PNG")
    options = {"num_predict": 3, "temperature": 0}
    client = place.ollama("looker")
    message: dict[str, Any] = {"role": "user", "content": "What is it?"}
    blind = client.chat("far-sees", [message], options=options)
    seen = client.chat("far-sees", [{**message, "images": [picture]}], options=options)
    assert blind.prompt_eval_count is not None
    assert (seen.prompt_eval_count or 0) >= blind.prompt_eval_count + PATCHES
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    parts: Any = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What is it?"},
    ]
    spoken = place.openai("looker").chat.completions.create(
        model="far-sees", messages=[{"role": "user", "content": parts}], max_tokens=3
    )
    assert spoken.usage is not None
    assert spoken.usage.prompt_tokens >= blind.prompt_eval_count + PATCHES
    with pytest.raises(ollama.ResponseError, match="image"):
        client.chat("far-chat", [{**message, "images": [picture]}])


def test_a_model_is_made_of_one_that_the_engine_serves(place: Place) -> None:
    client = place.ollama("maker")
    client.create(
        "short", from_="far-chat", system="You count.", parameters={"num_predict": 3, "seed": 1}
    )
    answer = client.chat("short", [{"role": "user", "content": COUNT}])
    assert answer.eval_count == 3
    plain = client.chat(
        "far-chat", [{"role": "user", "content": COUNT}], options={"num_predict": 3}
    )
    assert (answer.prompt_eval_count or 0) > (plain.prompt_eval_count or 0)
    shown = client.show("short")
    assert shown.capabilities == ["completion"]
    assert {model.model: model.size for model in client.list().models}["maker/short:latest"] == 0
    with pytest.raises(ollama.ResponseError, match="TEMPLATE is not possible") as refused:
        client.create("other", from_="far-chat", template="{{ .Prompt }}")
    assert refused.value.status_code == 400
    running = {model.model for model in client.ps().models}
    assert {"maker/short:latest", "far-chat:latest"} <= running


def test_an_engine_has_two_at_a_time_over_its_models_in_fair_turns(place: Place) -> None:
    def ask(user: str, model: str, tokens: int = 8) -> float:
        options = {"num_predict": tokens, "temperature": 0}
        place.ollama(user).generate(model, COUNT, raw=True, options=options)
        return time.monotonic()

    busy: list[int] = []

    def are_over(*asked: concurrent.futures.Future[float]) -> bool:
        busy.append(place.chat.busy_slots)
        return all(future.done() for future in asked)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        models = ("far-chat", "far-tools", "far-thinks") * 2
        # Long enough that a busy machine gets the others' requests in before these are over.
        heavy = [pool.submit(ask, "heavy", model, 150) for model in models]
        # Two of them run and the others wait when the rest come.
        wait_for(lambda: any(map(are_over, heavy)), PATIENCE_S)
        lights = zip(("light1", "light2", "light3"), models, strict=False)
        light = [pool.submit(ask, user, model) for user, model in lights]
        wait_for(lambda: are_over(*heavy, *light), PATIENCE_S)
        last_light = max(future.result() for future in light)
        ends = sorted(future.result() for future in heavy)
    assert sum(end > last_light for end in ends) >= 2
    assert max(busy) == 2  # of its three slots


def test_limits_hold_for_what_is_computed_elsewhere(place: Place) -> None:
    def is_known() -> bool:
        told = place.get("poor", "/api/limits?model=far-chat")["limits"]
        return any(limit["amount"] == TOKENS_A_DAY for limit in told)

    wait_for(is_known)  # web reads rules twice a second
    with pytest.raises(ollama.ResponseError, match=f"{TOKENS_A_DAY} tokens per day") as told:
        place.ollama("poor").generate("far-chat", COUNT, raw=True, options={"num_predict": 120})
    assert told.value.status_code == 429


def test_an_engine_that_dies_ends_each_request_once_and_comes_back(place: Place) -> None:
    options = {"num_predict": 900, "temperature": 0}
    stream = place.ollama("patient").generate(
        "far-chat", COUNT, raw=True, stream=True, options=options
    )
    next(iter(stream))
    os.kill(place.chat.process.pid, signal.SIGKILL)
    with pytest.raises(ollama.ResponseError, match="'chat' that serves this model"):
        list(stream)
    row = place.newest_row("patient", 1)
    assert (row["outcome"], row["error_code"]) == ("failed", "upstream_failed")
    place.chat.process.wait()
    with pytest.raises(ollama.ResponseError, match="does not answer") as told:
        place.ollama("patient").generate("far-chat", COUNT, raw=True)
    assert told.value.status_code == 503

    place.chat.start()
    place.chat.wait_until_up()
    wait_for(lambda: _works(place), PATIENCE_S)


def _works(place: Place) -> bool:
    try:
        place.ollama("patient").generate("far-chat", COUNT, raw=True, options={"num_predict": 1})
    except ollama.ResponseError:
        return False
    return True
