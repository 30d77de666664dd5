"""The one internal request that every dialect is parsed into.

A dialect fills it with what the client sent; `generation` adds what the model says and turns it
into what the engine is told (`inference.messages`). Knows no HTTP and no wire shape.
"""

from dataclasses import dataclass, field
from typing import Any

from inference.messages import ChatMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """How long the model stays in memory after the request; `math.inf` is for ever."""

    seconds: float

    @property
    def is_zero(self) -> bool:
        """Whether the model is to leave at once."""
        return self.seconds == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation to go on with. No messages: load or unload (contract 1.4)."""

    model: str
    messages: tuple[ChatMessage, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    think: bool | str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: KeepAlive | None = None
    truncate: bool = True

    @property
    def is_load(self) -> bool:
        """Whether nothing is to be generated."""
        return not self.messages


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A prompt to complete (`/api/generate`). An empty prompt: load or unload.

    `system` and `template` replace the model's own when not empty; `raw` sends the prompt as it is.
    """

    model: str
    prompt: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    context: tuple[int, ...] = ()
    think: bool | str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: KeepAlive | None = None
    truncate: bool = True

    @property
    def is_load(self) -> bool:
        """Whether nothing is to be generated."""
        return not self.prompt


GenerationRequest = ChatRequest | CompletionRequest
