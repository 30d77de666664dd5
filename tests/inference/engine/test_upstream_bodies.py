"""What an engine elsewhere is asked with: options, messages, tools, thinking and schemas."""

import json
from typing import Any

import pytest

from inference.engine.upstream.bodies import generation
from inference.engine.upstream.failures import UpstreamError
from inference.engine.upstream.options import KINDS
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    FillPrompt,
    Generate,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
    TokensPrompt,
    ToolCall,
    UpstreamRef,
)

HI = ChatMessage(role="user", content="Hi")
ALL = Sampling(
    num_predict=5,
    seed=1,
    temperature=0.5,
    top_k=0,
    top_p=0.9,
    min_p=0.1,
    typical_p=0.7,
    repeat_last_n=8,
    repeat_penalty=1.1,
    presence_penalty=0.2,
    frequency_penalty=0.3,
    mirostat=1,
    stop=("x",),
    logit_bias=((7, -100.0),),
)
NAMES = tuple(Sampling.__struct_fields__)
OPENAI = {
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.3,
    "seed": 1,
    "max_tokens": 5,
    "stop": ["x"],
    "logit_bias": {"7": -100.0},
}
TOOLS = tuple(
    {"type": "function", "function": {"name": name, "parameters": {}}} for name in ("a", "b", "c")
)


def asked(prompt: Any, kind: str = "vllm", **fields: Any) -> dict[str, Any]:
    upstream = UpstreamRef(name="gpu", url="http://gpu/v1", kind=kind, model="org/m")
    request = Generate(
        request_id="r",
        model=ModelRef(name="m", digest="", weights="", upstream=upstream),
        runner=RunnerOptions(num_ctx=10),
        prompt=prompt,
        **{"sampling": Sampling(), **fields},
    )
    body: dict[str, Any] = json.loads(json.dumps(generation(request, upstream).body))
    return body


def chat(*messages: ChatMessage, **fields: Any) -> ChatPrompt:
    return ChatPrompt(messages=messages or (HI,), template="", **fields)


@pytest.mark.parametrize(
    ("kind", "further"),
    [
        ("openai", {}),
        ("vllm", {"top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1}),
        ("sglang", {"top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1}),
        (
            "llama.cpp",
            {
                "top_k": 0,
                "min_p": 0.1,
                "typical_p": 0.7,
                "repeat_penalty": 1.1,
                "repeat_last_n": 8,
                "mirostat": 1,
                "mirostat_tau": 5.0,
                "mirostat_eta": 0.1,
            },
        ),
    ],
)
def test_an_engine_gets_the_options_that_it_knows_by_its_names(
    kind: str, further: dict[str, Any]
) -> None:
    body = asked(chat(), kind, sampling=ALL, asked_options=NAMES)
    own = {"model", "stream", "stream_options", "timings_per_token", "messages"}
    assert {name: value for name, value in body.items() if name not in own} == OPENAI | further


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_asked_for_is_the_engines_choice(kind: str) -> None:
    body = asked(chat(), kind, asked_options=())
    assert body.keys() <= {"model", "stream", "stream_options", "timings_per_token", "messages"}
    assert body["stream_options"]["include_usage"] is True


def test_images_are_data_urls_before_the_text() -> None:
    body = asked(chat(ChatMessage(role="user", content="see", images=(b"\x89PNG", b"\xff\xd8x"))))
    [message] = body["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "image_url", "text"]
    assert message["content"][0]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert message["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_calls_and_their_results_find_each_other_without_ids() -> None:
    calls = (ToolCall(name="a", arguments={"x": 1}), ToolCall(name="b", arguments={}, id="own"))
    body = asked(
        chat(
            ChatMessage(role="assistant", tool_calls=calls, thinking="hm"),
            ChatMessage(role="tool", content="2", tool_name="b"),
            ChatMessage(role="tool", content="1"),
            ChatMessage(role="tool", content="3", tool_call_id="given"),
        )
    )
    first, *results = body["messages"]
    assert [call["id"] for call in first["tool_calls"]] == ["call_0_0", "own"]
    assert first["tool_calls"][0]["function"] == {"name": "a", "arguments": '{"x":1}'}
    assert first["reasoning_content"] == "hm"
    assert [one["tool_call_id"] for one in results] == ["own", "call_0_0", "given"]


@pytest.mark.parametrize(
    ("forced", "choice", "names"),
    [
        ((), None, "abc"),
        (("b",), {"type": "function", "function": {"name": "b"}}, "b"),
        (("a", "b"), "required", "ab"),
    ],
)
def test_tools_are_offered_and_forced(forced: tuple[str, ...], choice: Any, names: str) -> None:
    body = asked(chat(tools=TOOLS), forced_tools=forced, most_calls=1)
    assert [tool["function"]["name"] for tool in body["tools"]] == list(names)
    assert body.get("tool_choice") == choice
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("think", "kind", "fields"),
    [
        (None, "vllm", {}),
        (True, "vllm", {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}}),
        (False, "sglang", {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        (
            "low",
            "vllm",
            {
                "chat_template_kwargs": {
                    "enable_thinking": True,
                    "thinking": True,
                    "reasoning_effort": "low",
                },
                "reasoning_effort": "low",
            },
        ),
        (True, "openai", {}),
        (False, "openai", {"reasoning_effort": "none"}),
        ("max", "openai", {"reasoning_effort": "high"}),
    ],
)
def test_thinking_is_asked_for_as_the_engine_knows_it(
    think: Any, kind: str, fields: dict[str, Any]
) -> None:
    body = asked(chat(think=think), kind)
    names = ("chat_template_kwargs", "reasoning_effort")
    assert {name: body[name] for name in names if name in body} == fields


def test_a_begun_answer_is_gone_on_with() -> None:
    begun = ChatMessage(role="assistant", content="Once")
    assert asked(chat(HI, begun), "vllm")["continue_final_message"] is True
    assert "continue_final_message" not in asked(chat(HI, begun), "llama.cpp")
    assert "continue_final_message" not in asked(chat(HI), "vllm")


def test_schemas_go_where_the_engine_wants_them() -> None:
    schema = '{"type":"object","properties":{"a":{"type":"string"}}}'
    told = asked(chat(), json_schema=schema)["response_format"]
    assert told["type"] == "json_schema"
    assert told["json_schema"]["schema"] == json.loads(schema)
    plain = asked(chat(), json_schema='{"type":"object"}')["response_format"]
    assert plain == {"type": "json_object"}
    raw = RawPrompt(text="a")
    assert "response_format" in asked(raw, "vllm", json_schema=schema)
    assert asked(raw, "llama.cpp", json_schema=schema)["json_schema"] == json.loads(schema)
    with pytest.raises(UpstreamError):
        asked(raw, "openai", json_schema=schema)


def test_completions_take_text_tokens_and_where_it_is_known_a_suffix() -> None:
    assert asked(TokensPrompt(tokens=(1, 2)))["prompt"] == [1, 2]
    fill = FillPrompt(prefix="a", suffix="b")
    assert asked(fill, "openai")["suffix"] == "b"
    with pytest.raises(UpstreamError):
        asked(fill, "vllm")
    assert asked(RawPrompt(text="a"), top_logprobs=0)["logprobs"] == 1
    assert asked(chat(), top_logprobs=50)["top_logprobs"] == 20
