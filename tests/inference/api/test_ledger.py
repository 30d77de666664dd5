"""What is in the ledger of requests that went the whole way: site, client, a fake engine."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator

from inference import generation
from inference.messages import Embed, FailureCode, Generate, Usage
from models_app import ledger_writer, limits
from models_app.models import ApiKey, LedgerEntry, LedgerHour, Outcome, User
from tests.conftest import principal_for
from tests.fakes.engine import USAGE, FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.conftest import bearer_for
from tests.limited import SetLimits, redis_socket, redis_url, set_limits

__all__ = ["redis_socket", "redis_url", "set_limits"]

HELLO = [{"role": "user", "content": "Hello"}]
KINDS = [
    ("/api/chat", {"messages": HELLO, "stream": False}, "native", "chat"),
    ("/api/generate", {"prompt": "Hello", "stream": False}, "native", "generate"),
    ("/api/generate", {"stream": False}, "native", "load"),
    ("/api/generate", {"keep_alive": 0, "stream": False}, "native", "unload"),
    ("/api/embed", {"input": ["one", "two"]}, "native", "embed"),
    ("/v1/chat/completions", {"messages": HELLO}, "openai", "chat"),
    ("/v1/completions", {"prompt": "Hello"}, "openai", "generate"),
    ("/v1/embeddings", {"input": "one"}, "openai", "embed"),
    ("/v1/responses", {"input": "Hello", "store": False}, "openai", "chat"),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 3}, "anthropic", "chat"),
    ("/v1/messages/count_tokens", {"messages": HELLO}, "anthropic", "render"),
]


@pytest.fixture
def full_disk(settings: Any, tmp_path: Path) -> None:
    """No journal can be written: a file is where its folder should be."""
    settings.LEDGER_DIR = tmp_path / "file"
    settings.LEDGER_DIR.write_text("")


@pytest.fixture
def alices_header(transactional_db: None, alice: User) -> tuple[bytes, bytes]:
    """What Alice opens a socket with."""
    return b"authorization", bearer_for(alice)["authorization"].encode()


async def rows() -> list[LedgerEntry]:
    """Return the rows of all that has ended, the oldest first."""
    await sync_to_async(ledger_writer.write_pending)()
    return [row async for row in LedgerEntry.objects.order_by("began_at")]


async def row() -> LedgerEntry:
    [only] = await rows()
    return only


@pytest.mark.parametrize("asked", KINDS)
async def test_every_kind_of_request_is_one_row(
    node: FakeNode, model: str, api: AsgiClient, asked: tuple[str, dict[str, Any], str, str]
) -> None:
    path, data, dialect, kind = asked
    answer = await api.post(path, {"model": model, **data})
    assert answer.status == 200, answer.text

    entry = await row()
    assert (entry.dialect, entry.kind, entry.outcome) == (dialect, kind, Outcome.DONE)
    assert entry.model_name == model
    assert len(entry.model_digest) == 64
    computes = kind not in {"load", "unload", "render"}
    assert entry.tokens_in == (USAGE.prompt_tokens if computes else 0)


async def test_row_says_who_with_which_key_and_from_where(
    node: FakeNode, model: str, api: AsgiClient, alice: User
) -> None:
    await api.post("/api/generate", {"model": model, "prompt": "x"})

    entry = await row()
    key = await ApiKey.objects.aget()
    assert (entry.user_id, entry.user_name, entry.key_id) == (alice.pk, "alice", key.pk)
    assert (entry.credential, entry.address, entry.node) == ("key", "127.0.0.1", "fake")


async def test_figures_are_the_engines(node: FakeNode, model: str, api: AsgiClient) -> None:
    usage = Usage(
        prompt_tokens=7,
        completion_tokens=5,
        cached_tokens=3,
        queue_ns=1_000,
        load_ns=2_000,
        prompt_eval_ns=3_000,
        eval_ns=4_000,
        compute_ns=5_999,
    )
    node.default = Script(usage=usage)
    await api.post("/api/generate", {"model": model, "prompt": "x"})

    entry = await row()
    assert (entry.tokens_in, entry.tokens_out, entry.tokens_cached) == (7, 5, 3)
    assert (entry.queue_us, entry.load_us, entry.prefill_us, entry.decode_us) == (1, 2, 3, 4)
    assert entry.compute_us == 5


async def test_parameters_are_numbers_and_flags_that_were_set(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    options = {"temperature": 0.25, "num_ctx": 1024, "seed": 42, "num_predict": 2, "stop": ["END"]}
    await api.post("/api/generate", {"model": model, "prompt": "x", "options": options})

    entry = await row()
    assert entry.seed == 42
    assert entry.parameters == {"temperature": 0.25, "num_ctx": 1024, "num_predict": 2}


async def test_several_prompts_are_one_row(node: FakeNode, model: str, api: AsgiClient) -> None:
    await api.post("/v1/completions", {"model": model, "prompt": ["a", "b", "c"]})

    assert len(node.got(Generate)) == 3
    assert (await row()).tokens_out == 3 * USAGE.completion_tokens


async def test_client_that_leaves_has_a_row(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.default = Script(pieces=("one", "two"), is_held=True)
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await call.wait_for_text("two")
    await call.leave()
    await generation.loaded_models()  # by then the end that the engine told has come

    entry = await row()
    assert (entry.outcome, entry.tokens_in, entry.tokens_out) == (
        Outcome.LEFT,
        USAGE.prompt_tokens,
        2,
    )


async def test_failure_has_a_row_with_its_code(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.default = Script(pieces=(), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    await api.post("/api/generate", {"model": model, "prompt": "x", "stream": False})

    entry = await row()
    assert (entry.outcome, entry.error_code) == (Outcome.FAILED, "runner_crashed")


async def test_lost_engine_has_a_row_with_what_was_seen(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.default = Script(pieces=("one",), cuts_connection=True)
    await api.post("/api/generate", {"model": model, "prompt": "x", "stream": False})

    entry = await row()
    assert (entry.outcome, entry.error_code) == (Outcome.FAILED, "connection_lost")
    assert (entry.tokens_in, entry.tokens_out) == (USAGE.prompt_tokens, 1)


async def test_engine_that_is_not_there_has_a_row(
    model: str, api: AsgiClient, settings: Any, tmp_path: Path
) -> None:
    settings.ENGINE_SOCKET = tmp_path / "nobody.sock"
    answer = await api.post("/api/generate", {"model": model, "prompt": "x"})

    assert answer.status == 503
    assert (await row()).error_code == "engine_unavailable"


async def test_refused_requests_have_none(
    node: FakeNode, model: str, api: AsgiClient, stranger: AsgiClient
) -> None:
    await api.post("/api/generate", {"model": "nothing", "prompt": "x"})
    await api.post("/api/generate", {"model": model, "prompt": "x", "options": {"num_ctx": "no"}})
    await stranger.post("/api/generate", {"model": model, "prompt": "x"})

    assert await rows() == []


async def test_answers_of_a_socket_have_a_row_each(
    node: FakeNode, model: str, alices_header: tuple[bytes, bytes]
) -> None:
    # Not at the top: the module builds the application, for which Django must be ready.
    from ollamasite.asgi import application

    headers = [alices_header, (b"host", b"localhost")]
    socket = WebsocketCommunicator(application, "/ws/chat", headers=headers)
    assert (await socket.connect())[0]
    for name in ("a", "b"):
        await socket.send_json_to({"type": "chat", "id": name, "model": model, "messages": HELLO})
        while (await socket.receive_json_from(timeout=5))["type"] != "done":
            pass
    await socket.disconnect()

    assert [entry.priority for entry in await rows()] == ["interactive", "interactive"]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/api/chat", {"messages": HELLO}),
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 3}),
        ("/api/embed", {"input": "x"}),
    ],
)
@pytest.mark.usefixtures("full_disk")
async def test_nothing_is_let_in_that_cannot_be_written_down(
    node: FakeNode, model: str, api: AsgiClient, path: str, data: dict[str, Any]
) -> None:
    answer = await api.post(path, {"model": model, **data})

    assert answer.status == 503
    assert "recorded" in answer.text
    assert answer.headers["retry-after"] == "2"
    assert node.got(Generate) == []
    assert node.got(Embed) == []


@pytest.mark.usefixtures("full_disk")
async def test_what_is_not_let_in_does_not_count(
    node: FakeNode, model: str, api: AsgiClient, alice: User, set_limits: SetLimits
) -> None:
    set_limits(requests=5, tokens_a_day=1000)
    await api.post("/api/generate", {"model": model, "prompt": "x"})

    async with asyncio.timeout(30):  # it is given back in the background
        while [state.remaining for state in await limits.look(principal_for(alice))] != [5, 1000]:
            await asyncio.sleep(0.01)


async def test_running_answer_ends_well_when_the_journal_is_lost(
    node: FakeNode, model: str, api: AsgiClient, settings: Any
) -> None:
    node.default = Script(pieces=("one", "two"), pause_s=0.05)
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await call.wait_for_text("one")
    for path in settings.LEDGER_DIR.iterdir():
        path.unlink()

    assert (await call.answer()).lines()[-1]["done"] is True
    assert (await row()).outcome == Outcome.DONE


async def test_no_text_of_a_request_is_written_anywhere(
    node: FakeNode, model: str, api: AsgiClient, settings: Any
) -> None:
    secret = "pssst-a-secret"
    node.default = Script(pieces=(secret,), last_text=secret)
    tool = {"type": "function", "function": {"name": secret, "description": secret}}
    schema = {"type": "object", "properties": {secret: {"type": "string"}}}
    options = {"stop": [secret], "temperature": 0.5}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/api/generate", {"prompt": secret, "system": secret, "options": options}),
        ("/api/generate", {"prompt": secret, "template": f"{secret} {{{{ .Prompt }}}}"}),
        ("/api/generate", {"prompt": secret, "suffix": secret}),
        ("/api/chat", {"messages": [{"role": "user", "content": secret}], "format": schema}),
        ("/v1/chat/completions", {"messages": HELLO, "tools": [tool], "user": secret}),
        ("/v1/responses", {"input": secret, "instructions": secret, "metadata": {"a": secret}}),
        ("/v1/messages", {"messages": HELLO, "system": secret, "max_tokens": 3}),
        ("/api/embed", {"input": [secret]}),
    ]
    for path, data in asked:
        await api.post(path, {"model": model, **data}, headers={"idempotency-key": secret})
    journal = b"".join(path.read_bytes() for path in settings.LEDGER_DIR.iterdir())

    assert len(await rows()) >= 6
    export = await api.get("/api/usage/export?format=json")
    written: list[Any] = [entry async for entry in LedgerEntry.objects.values()]
    written += [entry async for entry in LedgerHour.objects.values()]
    for place in (journal.decode(), json.dumps(written, default=str), export.text):
        assert "alice" in place
        assert secret not in place
