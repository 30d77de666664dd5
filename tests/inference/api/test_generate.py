"""`POST /api/generate` (contract 1.2, 1.4, 2.6)."""

import re
from typing import Any

import pytest

from inference.messages import (
    ChatMessage,
    ChatPrompt,
    DoneReason,
    FailureCode,
    Generate,
    Load,
    RawPrompt,
    Unload,
    Usage,
)
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.conftest import CHATML

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
FINAL_KEYS = [
    "model",
    "created_at",
    "response",
    "done",
    "done_reason",
    "context",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
]


async def prompt_of(node: FakeNode) -> Any:
    return (await node.wait_for(Generate)).prompt


async def test_stream_has_a_line_for_every_piece_and_one_for_the_end(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/generate", {"model": model, "prompt": "Hello"})
    first, second, final = answer.lines()

    assert answer.status == 200
    assert answer.content_type == "application/x-ndjson"
    assert answer.headers["x-accel-buffering"] == "no"
    assert list(first) == ["model", "created_at", "response", "done"]
    assert (first["response"], first["done"]) == ("Hello", False)
    assert (second["response"], second["done"]) == (".", False)
    assert list(final) == FINAL_KEYS
    assert (final["response"], final["done"], final["done_reason"]) == ("", True, "stop")


async def test_whole_answer_is_one_object(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.post("/api/generate", {"model": model, "prompt": "Hello", "stream": False})
    body = answer.json()

    assert answer.status == 200
    assert answer.content_type == "application/json; charset=utf-8"
    assert not answer.body.endswith(b"\n")
    assert list(body) == FINAL_KEYS
    assert (body["response"], body["done"], body["context"]) == ("Hello.", True, [1, 2, 3])
    assert body["prompt_eval_count"] == 10
    assert body["eval_count"] == 3
    assert body["load_duration"] > 551990
    assert body["total_duration"] > 0


async def test_times_are_utc_with_up_to_nine_digits(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    lines = (await api.post("/api/generate", {"model": model, "prompt": "x"})).lines()

    assert all(TIME.fullmatch(line["created_at"]) for line in lines)


async def test_model_is_echoed_as_it_was_asked_for(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    asked = "library/SmolLM2:135M"
    lines = (await api.post("/api/generate", {"model": asked, "prompt": "x"})).lines()

    assert {line["model"] for line in lines} == {asked}


async def test_zero_metrics_vanish(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(Script(usage=Usage(prompt_tokens=1), context=()))
    body = (
        await api.post("/api/generate", {"model": model, "prompt": "x", "stream": False})
    ).json()

    assert list(body)[5:] == ["total_duration", "load_duration", "prompt_eval_count"]


async def test_last_piece_may_come_with_the_end(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), last_text="b", reason=DoneReason.LENGTH))
    lines = (await api.post("/api/generate", {"model": model, "prompt": "x"})).lines()

    assert [line["response"] for line in lines] == ["a", "b"]
    assert lines[-1]["done_reason"] == "length"


async def test_text_is_escaped_as_go_does(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(Script(pieces=("<a&b> é😀",)))
    answer = await api.post("/api/generate", {"model": model, "prompt": "x"})

    assert '"response":"\\u003ca\\u0026b\\u003e é😀"' in answer.text


async def test_prompt_goes_through_the_models_template(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post("/api/generate", {"model": model, "prompt": "Why?", "stream": False})

    assert await prompt_of(node) == ChatPrompt(
        messages=(ChatMessage(role="user", content="Why?"),), template=CHATML
    )


async def test_system_and_template_of_the_request_replace_the_models(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = {"model": model, "prompt": "p", "system": "s", "template": "{{ .Prompt }}"}
    await api.post("/api/generate", body)
    prompt = await prompt_of(node)

    assert prompt.template == "{{ .Prompt }}"
    assert prompt.messages[0] == ChatMessage(role="system", content="s")


async def test_context_is_handed_on(node: FakeNode, model: str, api: AsgiClient) -> None:
    await api.post("/api/generate", {"model": model, "prompt": "p", "context": [5, 6]})

    assert (await prompt_of(node)).context == (5, 6)


async def test_raw_prompt_is_sent_as_it_is_and_gives_no_context(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = {"model": model, "prompt": "<s>x", "raw": True, "stream": False}
    answer = await api.post("/api/generate", body)

    assert await prompt_of(node) == RawPrompt(text="<s>x")
    assert "context" not in answer.json()


async def test_options_reach_the_engine_over_the_models_own(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    options = {"num_predict": 5, "temperature": 0, "seed": 1, "num_ctx": 1024, "unknown": 1}
    await api.post("/api/generate", {"model": model, "prompt": "p", "options": options})
    request = await node.wait_for(Generate)

    assert (request.sampling.num_predict, request.sampling.temperature) == (5, 0)
    assert request.sampling.seed == 1
    assert request.sampling.stop == ("<|im_start|>", "<|im_end|>")
    assert request.runner.num_ctx == 1024


async def test_engine_is_told_who_asks_and_for_which_model(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post("/api/generate", {"model": model, "prompt": "p", "keep_alive": "1m"})
    request = await node.wait_for(Generate)

    assert (request.user, request.keep_alive_s) == ("alice", 60)
    assert request.model.name == model
    assert len(request.model.digest) == len(request.model.weights) == 64


@pytest.mark.parametrize("stream", [True, False])
async def test_empty_prompt_loads_the_model(
    node: FakeNode, model: str, api: AsgiClient, stream: bool
) -> None:
    answer = await api.post("/api/generate", {"model": model, "stream": stream})
    body = answer.json()

    assert answer.content_type == "application/json; charset=utf-8"
    assert list(body) == ["model", "created_at", "response", "done", "done_reason"]
    assert (body["response"], body["done"], body["done_reason"]) == ("", True, "load")
    assert len(node.got(Load)) == 1


@pytest.mark.parametrize("keep_alive", [0, "0", "0s", -0.0])
async def test_empty_prompt_with_zero_keep_alive_unloads_the_model(
    node: FakeNode, model: str, api: AsgiClient, keep_alive: Any
) -> None:
    answer = await api.post("/api/generate", {"model": model, "keep_alive": keep_alive})

    assert answer.json()["done_reason"] == "unload"
    assert len(node.got(Unload)) == 1
    assert node.got(Load) == []


async def test_prompt_with_zero_keep_alive_is_answered(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/generate", {"model": model, "prompt": "x", "keep_alive": 0})

    assert answer.lines()[-1]["done_reason"] == "stop"
    assert node.got(Generate)[0].keep_alive_s == 0


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"prompt": "x"}, 404, "model '' not found"),
        ({"model": "", "prompt": "x"}, 404, "model '' not found"),
        ({"model": "a b", "prompt": "x"}, 400, "invalid model name"),
        ({"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ({"model": "nope", "keep_alive": 0}, 404, "model 'nope' not found"),
        ({"model": "nope"}, 404, "model 'nope' not found"),
        ({"prompt": "x", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        (
            {"model": "smollm2:135m", "prompt": "x", "raw": True, "system": "s"},
            400,
            "raw mode does not support template, system, or context",
        ),
        (
            {"model": "smollm2:135m", "prompt": "x", "think": True},
            400,
            '"smollm2:135m" does not support thinking',
        ),
        (
            {"model": "smollm2:135m", "think": True},
            400,
            '"smollm2:135m" does not support thinking',
        ),
        (
            {"model": "smollm2:135m", "prompt": "x", "options": {"num_ctx": "x"}},
            400,
            'option "num_ctx" must be of type integer',
        ),
        (
            {"model": "smollm2:135m", "prompt": "x", "keep_alive": "300"},
            400,
            'time: missing unit in duration "300"',
        ),
    ],
)
async def test_refusals_have_the_contracts_words(
    node: FakeNode, model: str, api: AsgiClient, body: Any, status: int, message: str
) -> None:
    answer = await api.post("/api/generate", body)

    assert (answer.status, answer.json()) == (status, {"error": message})
    assert answer.content_type == "application/json; charset=utf-8"
    assert node.got(Generate) == []


async def test_private_model_of_another_is_not_found(
    node: FakeNode, bobs_model: str, api: AsgiClient
) -> None:
    answer = await api.post("/api/generate", {"model": bobs_model, "prompt": "x"})

    assert answer.status == 404
    assert answer.json() == {"error": f"model '{bobs_model}' not found"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        (FailureCode.BAD_REQUEST, 400),
        (FailureCode.PROMPT_TOO_LONG, 400),
        (FailureCode.TEMPLATE_FAILED, 400),
        (FailureCode.LOAD_FAILED, 500),
        (FailureCode.NO_ROOM, 500),
        (FailureCode.RUNNER_CRASHED, 500),
        (FailureCode.QUEUE_FULL, 503),
        (FailureCode.CANCELLED, 499),
    ],
)
async def test_early_failure_keeps_its_status(
    node: FakeNode, model: str, api: AsgiClient, code: FailureCode, status: int, stream: bool
) -> None:
    node.scripts.append(Script(pieces=(), failure=code, failure_message="why"))
    answer = await api.post("/api/generate", {"model": model, "prompt": "x", "stream": stream})

    assert (answer.status, answer.json()) == (status, {"error": "why"})
    # Only what fails on the way to a stream has lost its charset (contract 11, 1.0).
    charset = "" if stream else "; charset=utf-8"
    assert answer.content_type == f"application/json{charset}"


async def test_what_a_node_that_goes_has_not_begun_is_asked_again(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(), failure=FailureCode.SHUTTING_DOWN))
    node.scripts.append(Script(pieces=("again",)))
    answer = await api.post("/api/generate", {"model": model, "prompt": "x", "stream": False})

    assert answer.status == 200
    assert answer.json()["response"] == "again"


async def test_busy_server_says_when_to_come_back(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(), failure=FailureCode.QUEUE_FULL))
    answer = await api.post("/api/generate", {"model": model, "prompt": "x"})

    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {
        "error": "server busy, please try again.  maximum pending requests exceeded"
    }


async def test_late_failure_is_the_last_line(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )
    answer = await api.post("/api/generate", {"model": model, "prompt": "x"})
    lines = answer.lines()

    assert answer.status == 200
    assert lines[0]["response"] == "a"
    assert lines[1:] == [{"error": "gone"}]


async def test_failure_in_the_middle_of_a_whole_answer_has_its_status(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED))
    answer = await api.post("/api/generate", {"model": model, "prompt": "x", "stream": False})

    assert answer.status == 500
    assert list(answer.json()) == ["error"]


async def test_engine_that_goes_away_in_mid_stream_ends_it_with_an_error(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), cuts_connection=True))
    lines = (await api.post("/api/generate", {"model": model, "prompt": "x"})).lines()

    assert lines[0]["response"] == "a"
    assert lines[-1] == {"error": "the connection to the inference service was lost"}


async def test_next_request_finds_an_engine_that_is_back(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a",), cuts_connection=True))
    await api.post("/api/generate", {"model": model, "prompt": "x"})
    answer = await api.post("/api/generate", {"model": model, "prompt": "x"})

    assert answer.lines()[-1]["done"] is True


async def test_many_streams_at_once_get_their_own_text(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    texts = [f"text {number}" for number in range(6)]
    node.scripts.extend(Script(pieces=(text,), pause_s=0.02) for text in texts)
    calls = [
        api.open("POST", "/api/generate", data={"model": model, "prompt": text}) for text in texts
    ]
    answers = [await call.answer() for call in calls]

    assert sorted(answer.lines()[0]["response"] for answer in answers) == texts
    assert all(len(answer.lines()) == 2 for answer in answers)
