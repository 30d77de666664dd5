"""The one internal request that every dialect is parsed into.

A dialect fills it with what the client sent; `assembly` adds what the model says and turns it
into what the engine is told (`inference.messages`). Knows no HTTP and no wire shape.
"""

from dataclasses import dataclass, field
from typing import Any

from inference.messages import ChatMessage
from ollamasite.errors import ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """How long the model stays in memory after the request; `math.inf` is for ever."""

    seconds: float

    @property
    def is_zero(self) -> bool:
        """Whether the model is to leave at once."""
        return self.seconds == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedGeneration:
    """What requests of every kind may ask for.

    `shift`: None leaves it to the model's architecture. `json_schema` is JSON text that the answer
    must satisfy, empty for none. `top_logprobs`: None for no log probabilities, else how many
    alternatives. `logit_bias` has pairs of a token id and what is added to its logit.
    `renders_only`: the prompt as the model would get it, and no answer. `refusal` is what is wrong
    with the request and counts only once the model is known and something is to be generated.
    """

    model: str
    think: bool | str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: KeepAlive | None = None
    truncate: bool = True
    shift: bool | None = None
    json_schema: str = ""
    top_logprobs: int | None = None
    choices: int = 1
    logit_bias: tuple[tuple[int, float], ...] = ()
    renders_only: bool = False
    refusal: ServiceError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(AskedGeneration):
    """A conversation to go on with. No messages: load or unload (contract 1.4)."""

    messages: tuple[ChatMessage, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def is_load(self) -> bool:
        """Whether nothing is to be generated."""
        return not self.messages

    @property
    def images(self) -> tuple[bytes, ...]:
        """Every image of the conversation, in order."""
        return tuple(image for message in self.messages for image in message.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(AskedGeneration):
    """A prompt to complete (`/api/generate`). An empty prompt: load or unload.

    `system` and `template` replace the model's own when not empty; `raw` sends the prompt as it is;
    `suffix` is what follows the text that is wanted. `scores_prompt` asks for the log
    probabilities of the prompt's own tokens.
    """

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    context: tuple[int, ...] = ()
    images: tuple[bytes, ...] = ()
    scores_prompt: bool = False

    @property
    def is_load(self) -> bool:
        """Whether nothing is to be generated."""
        return not self.prompt


GenerationRequest = ChatRequest | CompletionRequest
