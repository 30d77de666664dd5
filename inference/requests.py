"""The one internal request that every dialect is parsed into.

A dialect fills it with what the client sent; `assembly` adds what the model says and turns it
into what the engine is told (`inference.messages`). Knows no HTTP and no wire shape.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.messages import ChatMessage, Priority
from models_app.permissions import Principal
from ollamasite.error_responses import Dialect
from ollamasite.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks and in which class; requests of one `idempotency_key` are tries of the same call.

    `dialect`: in whose words they ask, for limits' headers and the ledger.
    """

    principal: Principal
    priority: Priority
    idempotency_key: str = ""
    dialect: Dialect = Dialect.NATIVE


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
    `renders_only`: the prompt as the model would get it, and no answer; with `counts_tokens` the
    number of its tokens as well. `refusal` is what is wrong
    with the request and counts only once the model is known and something is to be generated.
    `prompt_field` is what the body calls the prompt, for an error that is about it. `complete`, if
    any, is called once when the request has been let in and returns it with all that only then may
    be fetched: until then there are stand-ins.
    """

    model: str
    prompt_field: str = "messages"
    think: bool | str | None = None
    thinks_if_able: bool = False  # a model that cannot think is not refused for `think`
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: KeepAlive | None = None
    truncate: bool = True
    shift: bool | None = None
    json_schema: str = ""
    top_logprobs: int | None = None
    choices: int = 1
    logit_bias: tuple[tuple[int, float], ...] = ()
    renders_only: bool = False
    counts_tokens: bool = False
    refusal: ServiceError | None = None
    complete: "Callable[[], Awaitable[GenerationRequest]] | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(AskedGeneration):
    """A conversation to go on with. No messages: load or unload (contract 1.4).

    `forced_tools` are names: the answer is calls of these and nothing else. An answer ends behind
    `most_calls` calls; None: behind as many as the model wants.
    """

    messages: tuple[ChatMessage, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    forced_tools: tuple[str, ...] = ()
    most_calls: int | None = None

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
    `tokens` are token ids in place of the prompt, computed as they are. `suffix` is what follows
    the text that is wanted. `scores_prompt` asks for the log
    probabilities of the prompt's own tokens.
    """

    prompt_field: str = "prompt"
    prompt: str = ""
    tokens: tuple[int, ...] = ()
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
        return not self.prompt and not self.tokens


GenerationRequest = ChatRequest | CompletionRequest
