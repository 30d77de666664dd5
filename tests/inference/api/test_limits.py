"""Limits of use on the way to the engine: what is counted, refused and told."""

import asyncio
import json
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from msgspec import structs

from inference import charging, generation, recording
from inference.messages import (
    Cancel,
    ChatMessage,
    ChatPrompt,
    FailureCode,
    Generate,
    ModelRef,
    RunnerOptions,
    Sampling,
    ToolCall,
)
from models_app import limits
from models_app.models import User
from ollamasite import meters
from tests.fakes.engine import USAGE, FakeNode, Script
from tests.fakes.http import Answer, AsgiClient
from tests.inference.conftest import bearer_for
from tests.limited import SetLimits, redis_socket, redis_url, set_limits

__all__ = ["redis_socket", "redis_url", "set_limits"]

HELLO = [{"role": "user", "content": "Hello"}]
USED = USAGE.prompt_tokens + USAGE.completion_tokens
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def left(answer: Answer, unit: str = "tokens") -> int:
    return int(answer.headers[f"x-ratelimit-remaining-{unit}"])


async def tokens_left(api: AsgiClient, model: str) -> int:
    """Return what is left, by a request that costs no tokens."""
    return left(await api.post("/api/generate", {"model": model, "stream": False}))


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/api/chat", {"messages": HELLO, "stream": False}),
        ("/api/chat", {"messages": HELLO}),
        ("/api/generate", {"prompt": "Hello", "stream": False}),
        ("/api/generate", {"prompt": "Hello"}),
        (CHAT, {"messages": HELLO}),
        (CHAT, {"messages": HELLO, "stream": True}),
    ],
)
async def test_answers_tell_the_limits_and_used_tokens_are_counted(
    node: FakeNode,
    model: str,
    api: AsgiClient,
    set_limits: SetLimits,
    path: str,
    data: dict[str, Any],
) -> None:
    set_limits(requests=10, tokens_a_day=5000)
    answer = await api.post(path, {"model": model, **data})

    assert answer.status == 200
    assert answer.headers["x-ratelimit-limit-requests"] == "10"
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"
    assert answer.headers["x-ratelimit-limit-tokens"] == "5000"
    assert answer.headers["x-ratelimit-reset-tokens"].endswith("s")
    assert await tokens_left(api, model) == 5000 - USED


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/api/embed", {"input": ["one", "two"]}),
        ("/api/embeddings", {"prompt": "one"}),
        ("/v1/embeddings", {"input": [1, 2, 3]}),
    ],
)
async def test_embedding_is_counted_too(
    node: FakeNode,
    model: str,
    api: AsgiClient,
    set_limits: SetLimits,
    path: str,
    data: dict[str, Any],
) -> None:
    set_limits(tokens_a_day=5000)
    answer = await api.post(path, {"model": model, **data})

    assert answer.status == 200
    assert 0 < 5000 - left(answer) < 10
    assert await tokens_left(api, model) == 5000 - USED


async def test_without_limits_no_header_tells_of_them(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post(CHAT, {"model": model, "messages": HELLO})

    assert [name for name in answer.headers if name.startswith("x-ratelimit")] == []


async def test_loading_costs_a_request_and_no_tokens(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=10, tokens=1000)
    answer = await api.post("/api/generate", {"model": model, "stream": False})

    assert (left(answer, "requests"), left(answer)) == (9, 1000)


@pytest.mark.parametrize("stream", [False, True])
async def test_one_request_too_many_is_refused_before_the_engine(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits, stream: bool
) -> None:
    set_limits(requests=1)
    data = {"model": model, "messages": HELLO, "stream": stream}
    await api.post(CHAT, data)
    labels = {"of": "user", "unit": "requests", "period": "minute"}
    refused = meters.REGISTRY.get_sample_value("ollamasite_limit_refusals_total", labels)
    answer = await api.post(CHAT, data)

    after = meters.REGISTRY.get_sample_value("ollamasite_limit_refusals_total", labels)
    assert after == (refused or 0) + 1
    assert answer.status == 429
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    waits_ms = int(answer.headers["retry-after-ms"])
    assert 50_000 < waits_ms <= 60_000
    assert int(answer.headers["retry-after"]) == -(-waits_ms // 1000)
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(node.got(Generate)) == 1


async def test_native_dialect_refuses_in_its_own_shape(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=1)
    data = {"model": model, "messages": HELLO}
    await api.post("/api/chat", data)
    answer = await api.post("/api/chat", data)

    assert answer.status == 429
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith("rate limit reached: 1 requests per minute")


async def test_what_is_refused_for_other_reasons_is_not_counted(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=10)
    missing = await api.post(CHAT, {"model": "nope", "messages": HELLO})
    answer = await api.post(CHAT, {"model": model, "messages": HELLO})

    assert missing.status == 404
    assert left(answer, "requests") == 9


async def test_users_do_not_share_a_limit(
    node: FakeNode, model: str, api: AsgiClient, bob_api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=1)
    data = {"model": model, "messages": HELLO}
    await api.post(CHAT, data)

    assert (await api.post(CHAT, data)).status == 429
    assert (await bob_api.post(CHAT, data)).status == 200


async def test_keys_of_a_user_share_the_limit(
    node: FakeNode, model: str, api: AsgiClient, alice: User, set_limits: SetLimits
) -> None:
    set_limits(requests=1)
    other_key = AsgiClient(await asyncio.to_thread(bearer_for, alice))
    data = {"model": model, "messages": HELLO}
    await api.post(CHAT, data)

    assert (await other_key.post(CHAT, data)).status == 429


async def test_client_that_leaves_pays_for_what_was_computed(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens_a_day=5000)
    node.scripts.append(Script(pieces=("one ", "two "), is_held=True))
    call = api.open("POST", CHAT, data={"model": model, "messages": HELLO, "stream": True})
    await call.wait_for_text("two")
    await call.leave()
    await node.wait_for(Cancel)

    assert await tokens_left(api, model) == 5000 - USAGE.prompt_tokens - 2


@pytest.mark.parametrize("pieces", [(), ("one ",)])
async def test_engine_that_fails_gives_back_what_was_held(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits, pieces: tuple[str, ...]
) -> None:
    set_limits(tokens_a_day=5000)
    node.scripts.append(Script(pieces=pieces, failure=FailureCode.RUNNER_CRASHED))
    await api.post(CHAT, {"model": model, "messages": HELLO, "stream": True})
    used = USAGE.prompt_tokens + 1 if pieces else 0

    assert await tokens_left(api, model) == 5000 - used


async def test_engine_that_is_not_there_gives_back_what_was_held(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens_a_day=5000)
    await node.stop()
    answer = await api.post(CHAT, {"model": model, "messages": HELLO})
    await limits.close()
    await node.start()

    assert answer.status == 503
    assert left(answer) < 5000
    assert await tokens_left(api, model) == 5000


async def test_call_that_cannot_be_written_down_gives_back_what_was_held(
    node: FakeNode,
    model: str,
    api: AsgiClient,
    set_limits: SetLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> str:
        raise RuntimeError

    set_limits(tokens_a_day=5000, parallel=1)
    with monkeypatch.context() as broken:
        broken.setattr(recording, "current_address", fail)
        answer = await api.post(CHAT, {"model": model, "messages": HELLO})

    assert answer.status == 500
    assert await tokens_left(api, model) == 5000


async def test_shutdown_settles_what_nobody_hears_any_more(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens_a_day=5000)
    node.scripts.append(Script(pieces=("one ", "two "), is_held=True))
    call = api.open("POST", CHAT, data={"model": model, "messages": HELLO, "stream": True})
    await call.wait_for_text("two")
    await generation.finish()
    await limits.close()
    await call.leave()

    assert await tokens_left(api, model) == 5000 - USAGE.prompt_tokens - 2


async def test_asked_length_of_the_answer_is_held(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens_a_day=5000)
    node.scripts.append(Script())
    data = {"model": model, "messages": HELLO, "max_completion_tokens": 100, "n": 2}
    answer = await api.post(CHAT, data)

    assert left(answer) == 5000 - 2 * 100 - 2  # "Hello" is two times four bytes


def test_tools_and_their_calls_are_held_too() -> None:
    call = ToolCall(name="f", arguments={"text": "x" * 4000})
    tool = {"type": "function", "function": {"description": "x" * 8000}}
    plain = ChatPrompt(messages=(ChatMessage(role="assistant"),), template="")
    calls = structs.replace(plain, messages=(ChatMessage(role="assistant", tool_calls=(call,)),))
    tools = structs.replace(plain, tools=(tool,))
    estimates = [
        charging.estimate_tokens(
            Generate(
                request_id="",
                model=ModelRef(name="", digest="", weights=""),
                runner=RunnerOptions(num_ctx=100_000),
                prompt=prompt,
                sampling=Sampling(num_predict=1),
            )
        )
        for prompt in (plain, calls, tools)
    ]

    assert estimates[0] == 1
    assert 1000 < estimates[1] < 1100
    assert 2000 < estimates[2] < 2100


@pytest.mark.parametrize(("stream", "status"), [(True, 200), (False, 429)])
async def test_answer_ends_when_the_day_has_no_more_tokens(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits, stream: bool, status: int
) -> None:
    set_limits(tokens_a_day=100)
    node.scripts.append(Script(pieces=("x ",) * 30_000, pause_s=0.001))
    answer = await api.post(CHAT, {"model": model, "messages": HELLO, "stream": stream})

    assert answer.status == status
    assert b"tokens per day" in answer.body
    assert 50 < answer.body.count(b'"x "') < 29_000 or not stream
    await node.wait_for(Cancel)


async def test_two_answers_without_an_end_share_the_day(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens_a_day=600)
    node.default = Script(pieces=("x ",) * 30_000, pause_s=0.001)
    data = {"model": model, "messages": HELLO, "stream": True, "max_completion_tokens": 9}
    answers = await asyncio.gather(*(api.post(CHAT, data) for _ in range(2)))
    told = sum(answer.body.count(b'"x "') for answer in answers)

    assert all(b"tokens per day" in answer.body for answer in answers)
    # All of it but what is asked for ahead; beyond it only what was on its way.
    assert 600 - 2 * limits.MORE_TOKENS - 2 * USED <= told < 30_000


async def test_prompt_that_is_longer_than_was_thought_ends_where_the_day_does(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens_a_day=USAGE.prompt_tokens - 1)
    node.scripts.append(Script(pieces=("x ",) * 3000, pause_s=0.001))
    data = {"model": model, "messages": HELLO, "max_completion_tokens": 1, "stream": True}
    answer = await api.post(CHAT, data)

    assert b"tokens per day" in answer.body


async def test_minute_is_owed_what_an_answer_takes_beyond_it(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens=100)
    node.scripts.append(Script(pieces=("x ",) * 300))
    first = await api.post(CHAT, {"model": model, "messages": HELLO, "stream": True})
    second = await api.post(CHAT, {"model": model, "messages": HELLO})

    assert first.body.count(b'"x "') == 300
    assert second.status == 429


@pytest.mark.parametrize("key", ["one-and-the-same", "x" * 255])
async def test_tries_of_one_call_are_counted_once(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits, key: str
) -> None:
    set_limits(requests=10, tokens_a_day=5000)
    node.scripts.append(Script(pieces=(), failure=FailureCode.QUEUE_FULL))
    headers = {"idempotency-key": key}
    tries = [
        await api.post(CHAT, {"model": model, "messages": HELLO}, headers=headers) for _ in range(3)
    ]

    assert [answer.status for answer in tries] == [503, 200, 200]
    assert [left(answer, "requests") for answer in tries] == [9, 9, 9]
    assert await tokens_left(api, model) == 5000 - USED


@pytest.mark.parametrize("stream", [False, True])
async def test_several_prompts_are_one_request_and_the_tokens_of_all(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits, stream: bool
) -> None:
    set_limits(requests=10, tokens_a_day=5000)
    prompts = ["one", "two", "two"]
    answer = await api.post(COMPLETIONS, {"model": model, "prompt": prompts, "stream": stream})

    assert (answer.status, left(answer, "requests")) == (200, 9)
    assert await tokens_left(api, model) == 5000 - 3 * USED


async def test_several_prompts_tried_again_are_counted_once(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=10, tokens_a_day=5000)
    data = {"model": model, "prompt": ["one", "two", "two"]}
    tries = [
        await api.post(COMPLETIONS, data, headers={"idempotency-key": "same"}) for _ in range(3)
    ]

    assert [left(answer, "requests") for answer in tries] == [9, 9, 9]
    assert await tokens_left(api, model) == 5000 - 3 * USED


async def test_several_prompts_of_which_one_fails_pay_for_what_was_computed(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens_a_day=5000)
    node.scripts.append(Script(pieces=("one ", "two "), is_held=True))
    node.scripts.append(Script(pieces=(), failure=FailureCode.RUNNER_CRASHED, pause_s=0.1))
    answer = await api.post(COMPLETIONS, {"model": model, "prompt": ["x", "y"]})

    assert answer.status >= 500
    assert await tokens_left(api, model) == 5000 - USAGE.prompt_tokens - 2


async def test_several_prompts_that_are_more_than_a_limit_hold_no_more_than_it_has(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(tokens=1000)
    data = {"model": model, "prompt": ["x"] * 8, "max_tokens": 500}

    node.default = Script()
    assert (await api.post(COMPLETIONS, data)).status == 200


async def test_other_words_under_the_same_key_are_another_call(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=10)
    for text in ("one", "two"):
        data = {"model": model, "messages": [{"role": "user", "content": text}]}
        answer = await api.post(CHAT, data, headers={"idempotency-key": "same"})

    assert left(answer, "requests") == 8


async def test_same_key_of_another_user_is_another_call(
    node: FakeNode, model: str, api: AsgiClient, bob_api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=10)
    data = {"model": model, "messages": HELLO}
    headers = {"idempotency-key": "same"}
    await api.post(CHAT, data, headers=headers)
    await bob_api.post(CHAT, data)
    answer = await bob_api.post(CHAT, data, headers=headers)

    assert left(answer, "requests") == 8


async def test_socket_is_counted_too(
    node: FakeNode, model: str, api: AsgiClient, alice: User, set_limits: SetLimits
) -> None:
    # Not at the top: the module builds the application, for which Django must be ready.
    from ollamasite.asgi import application

    set_limits(requests=1)
    bearer = await asyncio.to_thread(bearer_for, alice)
    headers = [(b"host", b"localhost"), (b"authorization", bearer["authorization"].encode())]
    await api.post("/api/generate", {"model": model, "stream": False})
    socket = WebsocketCommunicator(application, "/ws/chat", headers=headers)
    await socket.connect(timeout=20)
    question = {"type": "chat", "id": "a", "model": model, "messages": HELLO}
    await socket.send_to(text_data=json.dumps(question))
    told = json.loads(await socket.receive_from(timeout=20))
    await socket.disconnect(timeout=20)

    assert told["type"] == "error"
    assert told["error"].startswith("rate limit reached: 1 requests per minute")


async def test_lost_redis_is_told_after_a_few_requests(
    node: FakeNode,
    model: str,
    api: AsgiClient,
    settings: Any,
    set_limits: SetLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_limits(requests=1000)
    monkeypatch.setattr(limits, "_grace", limits._Grace())
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    data = {"model": model, "messages": HELLO}
    statuses = [(await api.post(CHAT, data)).status for _ in range(limits.GRACE_REQUESTS)]
    answer = await api.post(CHAT, data)

    assert statuses == [200] * limits.GRACE_REQUESTS
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "server_error")
