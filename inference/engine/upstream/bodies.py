"""A request → the route it goes to and the JSON it is asked with.

OpenAI's API reference; what other engines want on top is in `options`. Knows no HTTP.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from inference.engine.upstream.failures import refused
from inference.engine.upstream.options import EngineKind, kind_of, sampling_fields
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    FillPrompt,
    Generate,
    RawPrompt,
    TokensPrompt,
    ToolCall,
    UpstreamRef,
)

CHAT: Final = "/chat/completions"
COMPLETION: Final = "/completions"
EMBEDDINGS: Final = "/embeddings"
_ANY_OBJECT: Final = {"type": "object"}
_MOST_ALTERNATIVES: Final = 20  # of OpenAI's API; engines refuse more
_IMAGE_TYPES: Final = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is sent: a route below the engine's URL, and a body that is JSON."""

    route: str
    body: Mapping[str, Any]


def generation(request: Generate, upstream: UpstreamRef) -> Asked:
    """Return how an engine is asked to generate. Raises UpstreamError for what it cannot do."""
    kind = kind_of(upstream.kind)
    _check(request)
    prompt = request.prompt
    common = {
        "model": upstream.model,
        "stream": True,
        **kind.usage,
        **sampling_fields(kind, request.sampling, request.asked_options),
        **({"n": request.choices} if request.choices > 1 else {}),
    }
    if isinstance(prompt, ChatPrompt):
        return Asked(CHAT, {**common, **_chat(request, prompt, kind)})
    return Asked(COMPLETION, {**common, **_completion(request, prompt, kind)})


def embedding(inputs: Sequence[str | tuple[int, ...]], upstream: UpstreamRef) -> Asked:
    """Return how an engine is asked for the vectors of inputs."""
    body = {"model": upstream.model, "input": list(inputs), "encoding_format": "float"}
    return Asked(EMBEDDINGS, body)


def _check(request: Generate) -> None:
    if request.renders_only:
        raise refused("the prompt of this model is made by the engine that serves it: not known")
    if request.scores_prompt:
        raise refused("the engine that serves this model does not score prompts")
    prompt = request.prompt
    if isinstance(prompt, ChatPrompt):
        if not prompt.is_models_template:
            raise refused("the engine that serves this model has its own template: send none")
        if prompt.context:
            raise refused("the engine that serves this model takes no context: send the messages")
    elif isinstance(prompt, RawPrompt) and prompt.images:
        raise refused("the engine that serves this model takes no images in a raw prompt")


# ------------------------------------------------------------------ chats


def _chat(request: Generate, prompt: ChatPrompt, kind: EngineKind) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": _messages(prompt.messages, kind)}
    if request.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": _alternatives(request.top_logprobs)}
    if request.json_schema and not request.forced_tools:
        body["response_format"] = _response_format(request.json_schema)
    if kind.goes_on and prompt.messages and _is_begun(prompt.messages[-1]):
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body | _tools(request, prompt) | _thinking(prompt.think, kind)


def _is_begun(message: ChatMessage) -> bool:
    return message.role == "assistant" and not message.tool_calls


def _tools(request: Generate, prompt: ChatPrompt) -> dict[str, Any]:
    forced = request.forced_tools
    if not prompt.tools:
        return {}
    tools = [tool for tool in prompt.tools if not forced or _name_of(tool) in forced]
    body: dict[str, Any] = {"tools": tools}
    if len(forced) == 1:
        body["tool_choice"] = {"type": "function", "function": {"name": forced[0]}}
    elif forced:
        body["tool_choice"] = "required"
    if request.most_calls == 1:
        body["parallel_tool_calls"] = False
    return body


def _name_of(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    return str(function.get("name", "")) if isinstance(function, dict) else ""


def _thinking(think: bool | str | None, kind: EngineKind) -> dict[str, Any]:  # noqa: FBT001 - as it is
    if think is None:
        return {}
    level = "high" if think == "max" else think if isinstance(think, str) else ""
    if not kind.has_template_arguments:
        effort = level or ("" if think else "none")
        return {"reasoning_effort": effort} if effort else {}
    # The two names that templates give it.
    arguments: dict[str, Any] = {"enable_thinking": bool(think), "thinking": bool(think)}
    if level:
        arguments["reasoning_effort"] = level
    return {
        "chat_template_kwargs": arguments,
        **({"reasoning_effort": level} if level else {}),
    }


def _messages(messages: Iterable[ChatMessage], kind: EngineKind) -> list[dict[str, Any]]:
    shaped: list[dict[str, Any]] = []
    open_calls: list[tuple[str, str]] = []  # of those that wait for their result: name and id
    for number, message in enumerate(messages):
        one: dict[str, Any] = {"role": message.role, "content": _content(message)}
        if message.tool_calls:
            calls = [_call(call, number, at) for at, call in enumerate(message.tool_calls)]
            open_calls = [(call["function"]["name"], call["id"]) for call in calls]
            one["tool_calls"] = calls
        if message.thinking and kind.has_template_arguments:
            one["reasoning_content"] = message.thinking
        if message.role == "tool":
            one["tool_call_id"] = message.tool_call_id or _answered(message, open_calls)
        shaped.append(one)
    return shaped


def _content(message: ChatMessage) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.content
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images
    ]
    return [*parts, {"type": "text", "text": message.content}] if message.content else parts


def _data_url(image: bytes) -> str:
    media = next((media for mark, media in _IMAGE_TYPES if image.startswith(mark)), "image/png")
    return f"data:{media};base64,{base64.b64encode(image).decode()}"


def _call(call: ToolCall, number: int, at: int) -> dict[str, Any]:
    arguments = msgspec.json.encode(call.arguments).decode()
    return {
        "id": call.id or f"call_{number}_{at}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _answered(message: ChatMessage, open_calls: list[tuple[str, str]]) -> str:
    """Return the id of the call whose result this is: that of its name, else the oldest."""
    named = [pair for pair in open_calls if pair[0] == message.tool_name]
    pair = next(iter(named or open_calls), ("", "call_0"))
    if pair in open_calls:
        open_calls.remove(pair)
    return pair[1]


def _response_format(schema_text: str) -> dict[str, Any]:
    schema = msgspec.json.decode(schema_text)
    if schema == _ANY_OBJECT:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


# ------------------------------------------------------------------ completions


def _completion(
    request: Generate, prompt: RawPrompt | TokensPrompt | FillPrompt, kind: EngineKind
) -> dict[str, Any]:
    body: dict[str, Any] = {}
    match prompt:
        case RawPrompt(text=text):
            body["prompt"] = text
        case TokensPrompt(tokens=tokens):
            body["prompt"] = list(tokens)
        case FillPrompt(prefix=prefix, suffix=suffix):
            if not kind.has_suffix:
                raise refused("the engine that serves this model does not support insert")
            body |= {"prompt": prefix, "suffix": suffix}
    if request.top_logprobs is not None:
        body["logprobs"] = _alternatives(request.top_logprobs)
    if request.json_schema:
        body |= _completion_schema(request.json_schema, kind)
    return body


def _alternatives(wanted: int) -> int:
    """Return how many to ask for: to llama.cpp, none means no log probabilities at all."""
    return max(1, min(_MOST_ALTERNATIVES, wanted))


def _completion_schema(schema_text: str, kind: EngineKind) -> dict[str, Any]:
    match kind.schema_field:
        case "response_format":
            return {"response_format": _response_format(schema_text)}
        case "json_schema":
            return {"json_schema": msgspec.json.decode(schema_text)}
        case _:
            raise refused("the engine that serves this model keeps only chats to a schema")
