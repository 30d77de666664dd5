"""`POST /v1/responses`: the whole answer, the stream, what the engine is told (contract 3.7)."""

import re
import time
from typing import Any

import pytest

from inference.messages import (
    DoneReason,
    FailureCode,
    Generate,
    Token,
    TokenLogprob,
    ToolCall,
    TopToken,
    Usage,
)
from tests.contract.conftest import able_model
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.api.responses_events import events_of

__all__ = ["able_model"]

URL = "/v1/responses"
LIGHT = {"type": "function", "name": "light", "parameters": {"type": "object"}, "strict": True}
CALL = ToolCall(name="light", arguments={"on": True}, id="call_1")


def piece(**fields: Any) -> Token:
    return Token(request_id="", **fields)


def logprob(text: str) -> TokenLogprob:
    token = text.encode()
    return TokenLogprob(token=token, logprob=-0.5, top=(TopToken(token=token, logprob=-0.5),))


async def test_whole_answer_has_the_contracts_shape(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=3, cached_tokens=4, reasoning_tokens=1)
    node.scripts.append(Script(usage=usage))
    answer = await api.post(URL, {"model": model, "input": "Hello"})
    body = answer.json()
    [message] = body["output"]

    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert re.fullmatch(r"resp_[0-9a-f]{32}", body["id"])
    assert re.fullmatch(r"msg_[0-9a-f]{36}", message.pop("id"))
    assert abs(body["created_at"] - time.time()) < 60
    assert body["completed_at"] >= body["created_at"]
    assert (body["object"], body["status"], body["model"]) == ("response", "completed", model)
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello."}
    assert message == {
        "type": "message",
        "status": "completed",
        "content": [part],
        "role": "assistant",
    }
    assert body["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 13,
    }
    assert (body["error"], body["incomplete_details"]) == (None, None)


async def test_what_was_asked_is_repeated(node: FakeNode, able_model: str, api: AsgiClient) -> None:
    asked = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "temperature": 0.5,
        "tool_choice": "none",
        "top_p": 0.25,
        "truncation": "auto",
        "user": "u",
    }
    answer = await api.post(URL, {"model": able_model, "input": "x", "tools": [LIGHT], **asked})
    body = answer.json()

    assert {key: body[key] for key in asked} == asked
    assert body["tools"] == [{**LIGHT, "description": None}]
    assert body["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert (body["store"], body["background"], body["service_tier"]) == (True, False, "default")


async def test_stream_has_the_contracts_events(node: FakeNode, model: str, api: AsgiClient) -> None:
    events = events_of(await api.post(URL, {"model": model, "input": "Hello", "stream": True}))
    created, in_progress, added, part_added, first, second, said, part_done, done, end = events
    item_id = added["item"]["id"]
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}

    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert created["response"] == in_progress["response"]
    assert created["response"]["status"] == "in_progress"
    assert created["response"]["output"] == []
    assert (added["item"]["status"], added["item"]["content"]) == ("in_progress", [])
    assert part_added["part"]["text"] == ""
    assert (first["delta"], second["delta"], said["text"]) == ("Hello", ".", "Hello.")
    assert all(place.items() <= e.items() for e in (part_added, first, second, said, part_done))
    assert part_done["part"] == done["item"]["content"][0]
    assert end["response"]["output"] == [done["item"]]
    assert end["response"]["usage"]["total_tokens"] == 13
    assert end["response"]["id"] == created["response"]["id"]


async def test_stream_of_thinking_text_and_calls_has_an_item_for_each(
    node: FakeNode, able_model: str, api: AsgiClient
) -> None:
    pieces = (
        piece(thinking="Hm"),
        piece(thinking=".", text="I "),
        piece(text="will.", tool_calls=(CALL,)),
        piece(text="Done."),
    )
    node.scripts.append(Script(pieces=pieces))
    body = {"model": able_model, "input": "x", "tools": [LIGHT], "stream": True}
    events = events_of(await api.post(URL, body))
    thought, said, call, more = events[-1]["response"]["output"]
    kinds = [(event["type"], event.get("output_index")) for event in events[2:-1]]

    assert thought["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert "encrypted_content" not in thought
    assert (said["content"][0]["text"], more["content"][0]["text"]) == ("I will.", "Done.")
    assert (call["name"], call["call_id"], call["status"]) == ("light", "call_1", "completed")
    assert call["arguments"] == '{"on":true}'
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == [
        thought,
        said,
        call,
        more,
    ]
    assert kinds[:7] == [
        ("response.output_item.added", 0),
        ("response.reasoning_summary_part.added", 0),
        ("response.reasoning_summary_text.delta", 0),
        ("response.reasoning_summary_text.delta", 0),
        ("response.reasoning_summary_text.done", 0),
        ("response.reasoning_summary_part.done", 0),
        ("response.output_item.done", 0),
    ]
    assert [kind for kind in kinds if kind[1] == 2] == [
        ("response.output_item.added", 2),
        ("response.function_call_arguments.delta", 2),
        ("response.function_call_arguments.done", 2),
        ("response.output_item.done", 2),
    ]


async def test_whole_answer_and_stream_have_the_same_items(
    node: FakeNode, able_model: str, api: AsgiClient
) -> None:
    pieces = (piece(thinking="Hm."), piece(text="I will."), piece(tool_calls=(CALL,)))
    node.scripts += [Script(pieces=pieces), Script(pieces=pieces)]
    body = {"model": able_model, "input": "x", "tools": [LIGHT]}
    whole = (await api.post(URL, body)).json()["output"]
    streamed = events_of(await api.post(URL, {**body, "stream": True}))[-1]["response"]["output"]

    assert [{**item, "id": ""} for item in whole] == [{**item, "id": ""} for item in streamed]
    assert [item["type"] for item in whole] == ["reasoning", "message", "function_call"]


@pytest.mark.parametrize("stream", [False, True])
async def test_cut_answer_is_incomplete(
    node: FakeNode, model: str, api: AsgiClient, stream: bool
) -> None:
    node.scripts.append(Script(pieces=("a",), last_text="b", reason=DoneReason.LENGTH))
    answer = await api.post(URL, {"model": model, "input": "x", "stream": stream})
    last = events_of(answer)[-1] if stream else {"response": answer.json()}
    body = last["response"]

    assert last.get("type", "response.incomplete") == "response.incomplete"
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["completed_at"] is None
    assert body["output"][0]["status"] == "incomplete"
    assert body["output"][0]["content"][0]["text"] == "ab"


async def test_answer_without_text_has_an_empty_message(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=()))
    [message] = (await api.post(URL, {"model": model, "input": "x"})).json()["output"]

    assert message["content"][0]["text"] == ""


async def test_logprobs_come_where_they_are_included(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    pieces = (
        piece(logprobs=(logprob("A"),)),
        piece(text="AB", logprobs=(logprob("B"),)),
    )
    node.scripts.append(Script(pieces=pieces))
    include = ["message.output_text.logprobs"]
    body = {"model": model, "input": "x", "include": include, "top_logprobs": 1, "stream": True}
    events = events_of(await api.post(URL, body))
    entries = events[-1]["response"]["output"][0]["content"][0]["logprobs"]
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]

    assert (await node.wait_for(Generate)).top_logprobs == 1
    assert [entry["token"] for entry in entries] == ["A", "B"]
    assert [entry["top_logprobs"][0]["token"] for entry in entries] == ["A", "B"]
    assert [delta["logprobs"] for delta in deltas] == [entries]


async def test_whole_answer_has_no_logprobs_of_its_thinking(
    node: FakeNode, able_model: str, api: AsgiClient
) -> None:
    pieces = (
        piece(thinking="Hm", logprobs=(logprob("Hm"),)),
        piece(text="A", logprobs=(logprob("A"),)),
    )
    node.scripts.append(Script(pieces=pieces))
    answer = await api.post(URL, {"model": able_model, "input": "x", "top_logprobs": 1})
    entries = answer.json()["output"][1]["content"][0]["logprobs"]

    assert [entry["token"] for entry in entries] == ["A"]


async def test_encrypted_reasoning_is_the_thinking(
    node: FakeNode, able_model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(piece(thinking="Hm."), piece(text="A"))))
    include = ["reasoning.encrypted_content"]
    answer = await api.post(URL, {"model": able_model, "input": "x", "include": include})

    assert answer.json()["output"][0]["encrypted_content"] == "Hm."


async def test_late_failure_is_a_failed_response_and_an_error_event(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(failure=FailureCode.RUNNER_CRASHED, failure_message="gone"))
    answer = await api.post(URL, {"model": model, "input": "x", "stream": True})
    *_, failed, error = events_of(answer)
    stored = await api.get(f"{URL}/{failed['response']['id']}")

    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "gone"}
    assert (error["type"], error["message"]) == ("error", "gone")
    assert error["error"]["message"] == "gone"
    assert stored.status == 404


@pytest.mark.parametrize("stream", [False, True])
async def test_early_failure_keeps_its_status(
    node: FakeNode, model: str, api: AsgiClient, stream: bool
) -> None:
    node.scripts.append(Script(pieces=(), failure=FailureCode.PROMPT_TOO_LONG))
    answer = await api.post(URL, {"model": model, "input": "x", "stream": stream})

    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")


async def test_sampling_fields_reach_the_engine(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = {
        "model": model,
        "input": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "x"}],
        "instructions": "Be brief.",
        "max_output_tokens": 5,
        "options": {"num_ctx": 1024, "top_k": 3, "seed": 7},
        "keep_alive": "1m",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    }
    await api.post(URL, body)
    request = await node.wait_for(Generate)
    prompt: Any = request.prompt
    sampling = request.sampling

    assert [(m.role, m.content) for m in prompt.messages] == [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "x"),
    ]
    assert (sampling.num_predict, sampling.seed, sampling.top_k) == (5, 7, 3)
    assert sampling.temperature == 1.0
    assert (request.runner.num_ctx, request.keep_alive_s) == (1024, 60)
    assert request.json_schema == '{"type":"object"}'
    assert request.truncate is False


async def test_truncation_cuts_only_where_it_is_wished(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post(URL, {"model": model, "input": "x", "truncation": "auto"})

    assert (await node.wait_for(Generate)).truncate is True


@pytest.mark.parametrize(
    ("choice", "forced", "most"),
    [
        ("auto", (), 1),
        ("required", ("light", "dark"), 1),
        ({"type": "function", "name": "dark"}, ("dark",), 1),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "dark"}],
            },
            ("dark",),
            1,
        ),
    ],
)
async def test_choice_of_tools_reaches_the_engine(
    node: FakeNode, able_model: str, api: AsgiClient, choice: Any, forced: Any, most: int
) -> None:
    body = {
        "model": able_model,
        "input": "x",
        "tools": [LIGHT, {**LIGHT, "name": "dark"}],
        "tool_choice": choice,
        "parallel_tool_calls": False,
    }
    answer = await api.post(URL, body)
    request = await node.wait_for(Generate)

    assert (request.forced_tools, request.most_calls) == (forced, most)
    assert answer.json()["tool_choice"] == choice


async def test_image_is_read_for_a_model_that_can_see(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    content = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
    ]
    body = {"model": model, "input": [{"role": "user", "content": content}]}
    answer = await api.post(URL, body)

    # The tiny model cannot see: that it says so shows that the image was read.
    assert answer.status == 400
    assert "image" in answer.json()["error"]["message"]


async def test_image_by_web_address_is_refused_where_the_site_has_it_off(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    content = [{"type": "input_image", "image_url": "https://pictures.example/cat.png"}]
    body = {"model": model, "input": [{"role": "user", "content": content}]}
    error = (await api.post(URL, body)).json()["error"]

    assert "image URLs are not currently supported" in error["message"]
    assert error["param"] == "input"
