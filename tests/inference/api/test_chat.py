"""`POST /api/chat` (contract 1.3, 1.4)."""

from typing import Any

import pytest

from inference.messages import (
    ChatMessage,
    ChatPrompt,
    DoneReason,
    FailureCode,
    Generate,
    Load,
    Unload,
)
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.conftest import CHATML

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
    }
]
FINAL_KEYS = [
    "model",
    "created_at",
    "message",
    "done",
    "done_reason",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]


async def test_stream_has_a_line_for_every_piece_and_one_for_the_end(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/chat", {"model": model, "messages": HELLO})
    first, second, final = answer.lines()

    assert answer.status == 200
    assert answer.content_type == "application/x-ndjson"
    assert list(first) == ["model", "created_at", "message", "done"]
    assert first["message"] == {"role": "assistant", "content": "Hello"}
    assert second["message"] == {"role": "assistant", "content": "."}
    assert list(final) == FINAL_KEYS
    assert final["message"] == {"role": "assistant", "content": ""}
    assert (final["done"], final["done_reason"]) == (True, "stop")


async def test_whole_answer_is_one_object(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.post("/api/chat", {"model": model, "messages": HELLO, "stream": False})
    body = answer.json()

    assert answer.content_type == "application/json; charset=utf-8"
    assert list(body) == FINAL_KEYS
    assert list(body["message"]) == ["role", "content"]
    assert body["message"]["content"] == "Hello."


async def test_length_is_a_reason(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(Script(reason=DoneReason.LENGTH))
    lines = (await api.post("/api/chat", {"model": model, "messages": HELLO})).lines()

    assert lines[-1]["done_reason"] == "length"


async def test_messages_reach_the_template(node: FakeNode, model: str, api: AsgiClient) -> None:
    messages = [
        {"role": "System", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
    ]
    await api.post("/api/chat", {"model": model, "messages": messages})

    assert (await node.wait_for(Generate)).prompt == ChatPrompt(
        messages=(
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", content="Hi"),
            ChatMessage(role="assistant", content="Hello"),
            ChatMessage(role="user", content="Why?"),
        ),
        template=CHATML,
    )


async def test_models_own_system_text_comes_first(
    node: FakeNode, bobs_model: str, bob_api: AsgiClient
) -> None:
    await bob_api.post("/api/chat", {"model": bobs_model, "messages": HELLO})
    prompt: Any = (await node.wait_for(Generate)).prompt

    own = ChatMessage(role="system", content="Bob's own words", is_models_own=True)
    assert prompt.messages[0] == own


async def test_system_message_that_comes_first_replaces_the_models(
    node: FakeNode, bobs_model: str, bob_api: AsgiClient
) -> None:
    messages = [{"role": "system", "content": "mine"}, *HELLO]
    await bob_api.post("/api/chat", {"model": bobs_model, "messages": messages})
    prompt: Any = (await node.wait_for(Generate)).prompt

    assert [message.content for message in prompt.messages] == ["mine", "Hello"]


@pytest.mark.parametrize("messages", [{}, {"messages": []}, {"messages": None}])
async def test_no_messages_load_the_model(
    node: FakeNode, model: str, api: AsgiClient, messages: dict[str, Any]
) -> None:
    answer = await api.post("/api/chat", {"model": model, **messages})
    body = answer.json()

    assert answer.content_type == "application/json; charset=utf-8"
    assert list(body) == ["model", "created_at", "message", "done", "done_reason"]
    assert body["message"] == {"role": "assistant", "content": ""}
    assert (body["done"], body["done_reason"]) == (True, "load")
    assert len(node.got(Load)) == 1


async def test_no_messages_with_zero_keep_alive_unload_the_model(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/chat", {"model": model, "keep_alive": 0})

    assert answer.json()["done_reason"] == "unload"
    assert len(node.got(Unload)) == 1


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "model is required"),
        ({"model": "", "messages": HELLO}, 400, "model is required"),
        ({"model": "a b", "messages": HELLO}, 400, "invalid model name"),
        ({"model": "nope", "messages": []}, 404, "model 'nope' not found"),
        (
            {"model": "smollm2:135m", "messages": HELLO, "tools": TOOLS},
            400,
            "registry.ollama.ai/library/smollm2:135m does not support tools",
        ),
        (
            {"model": "smollm2:135m", "tools": TOOLS},
            400,
            "registry.ollama.ai/library/smollm2:135m does not support tools",
        ),
        (
            {"model": "smollm2:135m", "messages": HELLO, "think": "high"},
            400,
            '"smollm2:135m" does not support thinking',
        ),
    ],
)
async def test_refusals_have_the_contracts_words(
    node: FakeNode, model: str, api: AsgiClient, body: Any, status: int, message: str
) -> None:
    answer = await api.post("/api/chat", body)

    assert (answer.status, answer.json()) == (status, {"error": message})
    assert answer.content_type == "application/json; charset=utf-8"


async def test_think_false_is_fine_on_any_model(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/chat", {"model": model, "messages": HELLO, "think": False})

    assert answer.status == 200


async def test_late_failure_is_the_last_line(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(Script(failure=FailureCode.INTERNAL, failure_message="broken"))
    lines = (await api.post("/api/chat", {"model": model, "messages": HELLO})).lines()

    assert lines[-1] == {"error": "broken"}
    assert not any(line.get("done") for line in lines)
