"""The chunks of a streamed answer as engines write them: shapes, and nothing of what they mean.

OpenAI's API reference (chat and completion chunks) and what vLLM, SGLang and llama.cpp's server
add to it. Fields that nobody here reads are passed over; a number out of all proportion is an
error.
"""

from typing import Annotated, Any, Final

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]
MOST_CHOICES: Final = 1024
Index = Annotated[int, msgspec.Meta(ge=0, lt=MOST_CHOICES)]


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens."""

    cached_tokens: Count | None = None


class CompletionDetails(msgspec.Struct, frozen=True):
    """Of the answer's tokens."""

    reasoning_tokens: Count | None = None


class UsageTold(msgspec.Struct, frozen=True):
    """What the engine has counted; None: it does not say."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    reasoning_tokens: Count | None = None  # SGLang

    @property
    def cached_tokens(self) -> int:
        """Of the prompt's tokens, those that were in a cache."""
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details else 0

    @property
    def thinking_tokens(self) -> int:
        """Of the answer's tokens, those of its thinking."""
        details = self.completion_tokens_details
        return (details.reasoning_tokens if details else None) or self.reasoning_tokens or 0


class Timings(msgspec.Struct, frozen=True):
    """What llama.cpp's server tells with each piece."""

    cache_n: Count = 0
    prompt_n: Count = 0


class FunctionDelta(msgspec.Struct, frozen=True):
    """A part of a call."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # OpenAI's are text

    @property
    def text(self) -> str:
        """The arguments, or a part of them, as JSON text."""
        told = self.arguments or ""
        return told if isinstance(told, str) else msgspec.json.encode(told).decode()


class CallDelta(msgspec.Struct, frozen=True):
    """A part of a call; the parts of one have the same index, where there are indices."""

    index: Index | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(msgspec.Struct, frozen=True):
    """What an answer grows by."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # vLLM's newer name
    tool_calls: list[CallDelta] | None = None


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that could have come."""

    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None


class ContentLogprob(TopLogprob, frozen=True):
    """A token that came."""

    top_logprobs: list[TopLogprob] | None = None


class Logprobs(msgspec.Struct, frozen=True):
    """Log probabilities: `content` in chats, the lists in completions."""

    content: list[ContentLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(msgspec.Struct, frozen=True):
    """One answer's part of a chunk."""

    index: Index = 0
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    stop_reason: Any = None  # vLLM: the stop string, or a token's id
    matched_stop: Any = None  # the same of SGLang


class Chunk(msgspec.Struct, frozen=True):
    """One event's data."""

    choices: list[Choice] | None = None
    usage: UsageTold | None = None
    timings: Timings | None = None
    error: Any = None
    object: str | None = None
    message: str | None = None  # of an error that is not wrapped


class Embedding(msgspec.Struct, frozen=True):
    """The vector of one input."""

    index: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    embedding: list[float]


class EmbeddingsAnswer(msgspec.Struct, frozen=True):
    """The body of an answer of /v1/embeddings."""

    data: list[Embedding]
    usage: UsageTold | None = None


chunk_decoder: Final = msgspec.json.Decoder(Chunk)
embeddings_decoder: Final = msgspec.json.Decoder(EmbeddingsAnswer)
