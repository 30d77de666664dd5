"""What the routes of this app answer, as types: for the OpenAPI document and for tests.

The answers themselves are written as dicts, key by key, by the writers and views; a test holds the
two together. Fields that may be missing are unset here, not null. Knows no route and no request.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class _Reply(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object without any other keys."""


# ------------------------------------------------------------------ log probabilities


class TokenEntry(_Reply, kw_only=True):
    """A token, its natural log probability and its UTF-8 bytes."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenEntryWithTop(TokenEntry, kw_only=True):
    """A token of the answer and those that were most probable in its place."""

    top_logprobs: list[TokenEntry] | UnsetType = UNSET


# ------------------------------------------------------------------ Ollama's dialect


class VersionReply(_Reply, kw_only=True):
    """Answer of `/api/version`."""

    version: str


class NativeCallFunction(_Reply, kw_only=True):
    """The function of a call."""

    index: int
    name: str
    arguments: dict[str, Any]


class NativeCall(_Reply, kw_only=True):
    """A call that the model asks for."""

    id: str | UnsetType = UNSET
    function: NativeCallFunction


class DebugInfo(_Reply, kw_only=True):
    """The prompt as the model would get it."""

    rendered_template: str
    image_count: int | UnsetType = UNSET


class _NativeReply(_Reply, kw_only=True):
    """What objects of both generating routes have. Durations are in nanoseconds."""

    model: str
    created_at: str
    done: bool
    done_reason: str | UnsetType = UNSET
    logprobs: list[TokenEntryWithTop] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_cached_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")


class GenerateReply(_NativeReply, kw_only=True):
    """Answer of `/api/generate`, or one line of it."""

    response: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[NativeCall] | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET


class NativeMessage(_Reply, kw_only=True):
    """A turn of the model."""

    role: str
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[NativeCall] | UnsetType = UNSET


class ChatReply(_NativeReply, kw_only=True):
    """Answer of `/api/chat`, or one line of it."""

    message: NativeMessage


class EmbedReply(_Reply, kw_only=True):
    """Answer of `/api/embed`."""

    model: str
    embeddings: list[list[float]]
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET


class EmbeddingReply(_Reply, kw_only=True):
    """Answer of `/api/embeddings`."""

    embedding: list[float]


class LoadedEntry(_Reply, kw_only=True):
    """A model in memory."""

    name: str
    model: str
    size: int
    digest: str
    details: dict[str, Any]
    expires_at: str
    size_vram: int
    context_length: int


class PsReply(_Reply, kw_only=True):
    """Answer of `/api/ps`."""

    models: list[LoadedEntry]


class QueueEntryReply(_Reply, kw_only=True):
    """A waiting request."""

    request_id: str
    model: str | None
    position: int
    reason: str
    waited_ms: int
    estimate_ms: int | None
    user: str | UnsetType = UNSET


class RunningReply(_Reply, kw_only=True):
    """A running request."""

    request_id: str
    model: str | None
    age_ms: int
    prompt_tokens: int
    completion_tokens: int
    tokens_per_s: float
    user: str | UnsetType = UNSET


class QueueReply(_Reply, kw_only=True):
    """Answer of `/api/queue`."""

    queue: list[QueueEntryReply]
    on_slots: list[RunningReply]
    running: int
    waiting: int
    slots: int


# ------------------------------------------------------------------ OpenAI's dialect


class ChatUsagePromptDetails(_Reply, kw_only=True):
    """Of the prompt's tokens, those that were in the cache."""

    cached_tokens: int


class ChatUsageCompletionDetails(_Reply, kw_only=True):
    """Of the completion's tokens, those of the thinking."""

    reasoning_tokens: int


class ChatUsage(_Reply, kw_only=True):
    """Counters in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: ChatUsagePromptDetails | UnsetType = UNSET
    completion_tokens_details: ChatUsageCompletionDetails | UnsetType = UNSET


class FunctionCallText(_Reply, kw_only=True):
    """The function of a call; `arguments` is JSON text."""

    name: str
    arguments: str


class CallEntry(_Reply, kw_only=True):
    """A call that the model asks for."""

    id: str
    index: int | UnsetType = UNSET
    type: Literal["function"]
    function: FunctionCallText


class AssistantMessage(_Reply, kw_only=True):
    """A turn of the model."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | UnsetType | None = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[CallEntry] | UnsetType = UNSET


class ChoiceLogprobs(_Reply, kw_only=True):
    """Log probabilities of a choice's tokens."""

    content: list[TokenEntryWithTop] | None
    refusal: list[TokenEntryWithTop] | UnsetType | None = UNSET


class ChatChoice(_Reply, kw_only=True):
    """One of the answers."""

    index: int
    message: AssistantMessage
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    logprobs: ChoiceLogprobs | UnsetType | None = UNSET


class ChatCompletionReply(_Reply, kw_only=True):
    """Answer of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | UnsetType = UNSET
    service_tier: str | UnsetType | None = UNSET
    choices: list[ChatChoice]
    usage: ChatUsage


class CompletionLogprobs(_Reply, kw_only=True):
    """Log probabilities of a text's tokens; `text_offset` counts characters."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(_Reply, kw_only=True):
    """One of the texts; an empty prompt only loads or unloads the model."""

    index: int
    text: str
    finish_reason: Literal["stop", "length", "content_filter", "load", "unload"]
    logprobs: CompletionLogprobs | UnsetType | None = UNSET


class CompletionReply(_Reply, kw_only=True):
    """Answer of `/v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | UnsetType = UNSET
    choices: list[CompletionChoice]
    usage: ChatUsage


class EmbeddingEntry(_Reply, kw_only=True):
    """A vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    embedding: list[float] | str
    index: int


class EmbeddingsUsage(_Reply, kw_only=True):
    """Counters in tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(_Reply, kw_only=True):
    """Answer of `/v1/embeddings`."""

    object: Literal["list"]
    data: list[EmbeddingEntry]
    model: str
    usage: EmbeddingsUsage


class TokenCountReply(_Reply, kw_only=True):
    """Answer of `/v1/responses/input_tokens`."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ResponseDeletedReply(_Reply, kw_only=True):
    """Answer of `DELETE /v1/responses/<id>`."""

    id: str
    object: Literal["response"]
    deleted: bool


class ItemsReply(_Reply, kw_only=True):
    """Answer of `/v1/responses/<id>/input_items`; items as OpenAI's SDK has them."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


# ------------------------------------------------------------------ Anthropic's dialect


class MessageUsageDetails(_Reply, kw_only=True):
    """Of the output's tokens, those of the thinking."""

    thinking_tokens: int


class MessageUsage(_Reply, kw_only=True):
    """Counters in tokens; `input_tokens` are those that were not in the cache."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: MessageUsageDetails
    service_tier: Literal["standard"]


class ContentBlock(_Reply, kw_only=True):
    """Text, thinking or a call, by its type."""

    type: Literal["text", "thinking", "tool_use"]
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    input: dict[str, Any] | UnsetType = UNSET


class MessageReply(_Reply, kw_only=True):
    """Answer of `/v1/messages`."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ContentBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: MessageUsage


class MessageTokensReply(_Reply, kw_only=True):
    """Answer of `/v1/messages/count_tokens`."""

    input_tokens: int
