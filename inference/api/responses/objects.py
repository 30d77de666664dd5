"""What `/v1/responses` answers with: the response object, its usage, its output items.

Shapes: contract/ollama.md 3.7 and the types of OpenAI's SDK. Knows no request and no event.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from inference.api.answers import token_entry
from inference.messages import TokenLogprob, ToolCall, Usage
from inference.responses import Item
from ollamasite.http import encode_json

COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"
IN_PROGRESS: Final = "in_progress"
FAILED: Final = "failed"


class ResponseObject(msgspec.Struct, kw_only=True):
    """The object itself, with what was asked for; times are Unix seconds."""

    id: str
    object: str = "response"
    created_at: int
    status: str = IN_PROGRESS
    background: bool = False
    completed_at: int | None = None
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, str] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[Item] = []
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    reasoning: dict[str, Any] | None = None
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = True
    temperature: float | None = None
    text: dict[str, Any] | None = None
    tool_choice: Any = "auto"
    tools: list[dict[str, Any]] = []
    top_logprobs: int = 0
    top_p: float | None = None
    truncation: str = "disabled"
    usage: dict[str, Any] | None = None
    user: str | None = None
    metadata: dict[str, str] = {}


def usage_object(usage: Usage) -> dict[str, Any]:
    """Return the counters of an answer; nothing is charged for writing the cache."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def text_part(text: str, logprobs: Sequence[TokenLogprob] = ()) -> dict[str, Any]:
    """Return the one part of a message."""
    entries = logprob_entries(logprobs)
    return {"type": "output_text", "annotations": [], "logprobs": entries, "text": text}


def message_item(item_id: str, status: str, parts: list[dict[str, Any]]) -> Item:
    """Return what the model said."""
    head = {"id": item_id, "type": "message", "status": status}
    return {**head, "content": parts, "role": "assistant"}


def reasoning_item(item_id: str, thought: str, *, includes_encrypted: bool) -> Item:
    """Return what the model thought; there is nothing to encrypt it for, so it is plain text."""
    item: Item = {"id": item_id, "type": "reasoning", "summary": []}
    if thought:
        item["summary"] = [summary_part(thought)]
    return {**item, "encrypted_content": thought} if includes_encrypted else item


def summary_part(text: str) -> dict[str, Any]:
    """Return a part of what the model thought."""
    return {"type": "summary_text", "text": text}


def call_item(item_id: str, status: str, call: ToolCall, *, arguments: str) -> Item:
    """Return a call that the model asks for."""
    head = {"id": item_id, "type": "function_call", "status": status}
    return {**head, "arguments": arguments, "call_id": call.id, "name": call.name}


def arguments_text(call: ToolCall) -> str:
    """Return the arguments of a call as JSON text."""
    return encode_json(call.arguments).decode()


def logprob_entries(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Return log probabilities as OpenAI writes them."""
    return [
        {**token_entry(token), "top_logprobs": [token_entry(other) for other in token.top]}
        for token in logprobs
    ]
