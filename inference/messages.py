"""Everything that crosses the boundary between web and node.

The same structs travel web → node and node → runner, so a request is described once. What only
node and runner say to each other is in `inference.engine.runner_messages`, what a node tells of
itself in `inference.node_messages`, how it becomes bytes in `inference.frames`. Knows nothing of
Django, HTTP, sockets' owners or llama.cpp.

Times are monotonic durations in nanoseconds (`_ns`) or seconds (`_s`); counts are tokens.
"""

import enum
from typing import Any, Final

from inference.metric_messages import GetMetrics as GetMetrics
from inference.metric_messages import NodeMetrics as NodeMetrics
from inference.node_messages import Counters as Counters
from inference.node_messages import Device as Device
from inference.node_messages import Ends as Ends
from inference.node_messages import GetCounters as GetCounters
from inference.node_messages import GetEnds as GetEnds
from inference.node_messages import GetQueue as GetQueue
from inference.node_messages import ListLoaded as ListLoaded
from inference.node_messages import LoadedModel as LoadedModel
from inference.node_messages import LoadedModels as LoadedModels
from inference.node_messages import LoadFailure as LoadFailure
from inference.node_messages import Nanoseconds as Nanoseconds
from inference.node_messages import NodeReport as NodeReport
from inference.node_messages import Part as Part
from inference.node_messages import Priority as Priority
from inference.node_messages import QueueEntry as QueueEntry
from inference.node_messages import QueueState as QueueState
from inference.node_messages import RunnerReport as RunnerReport
from inference.node_messages import RunningEntry as RunningEntry
from inference.node_messages import Tokens as Tokens
from inference.node_messages import Usage as Usage
from inference.node_messages import Wire as Wire
from inference.node_messages import Withdraw as Withdraw
from inference.node_messages import Withdrawn as Withdrawn

PROTOCOL_VERSION: Final = 8


# ---------------------------------------------------------------- what a request is made of


class ToolCall(Part, frozen=True):
    """One call that a model asked for. `arguments` is the decoded JSON object."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    index: int = 0


class ChatMessage(Part, frozen=True):
    """One turn of a conversation, in the native dialect's terms (contract 1.3)."""

    role: str
    content: str = ""
    images: tuple[bytes, ...] = ()
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
    is_models_own: bool = False  # from the model's manifest, not from the caller


class ChatPrompt(Part, frozen=True, tag="chat"):
    """Messages to be put through the model's template by the runner.

    `messages` already holds the model's own system text and stored messages (contract 6.1).
    `context` are token ids of an earlier answer, put in front (contract 6.10).
    """

    messages: tuple[ChatMessage, ...]
    template: str
    is_jinja: bool = False  # False: it is a Go template
    is_models_template: bool = True  # False: the caller sent it
    tools: tuple[dict[str, Any], ...] = ()
    think: bool | str | None = None
    context: tuple[int, ...] = ()


class RawPrompt(Part, frozen=True, tag="raw"):
    """Text that reaches the tokenizer as it is; images belong where `[img-N]` stands."""

    text: str
    images: tuple[bytes, ...] = ()


class TokensPrompt(Part, frozen=True, tag="tokens"):
    """Token ids of the model's vocabulary, computed as they are."""

    tokens: tuple[int, ...]


class FillPrompt(Part, frozen=True, tag="fill"):
    """Text to be written between prefix and suffix (infill).

    Through a template that knows `.Suffix`, else by the vocabulary's fill-in-the-middle tokens.
    """

    prefix: str
    suffix: str
    template: str = ""


class RunnerOptions(Part, frozen=True):
    """What a runner is started with; a difference means another runner (contract 5, 7)."""

    num_ctx: int
    num_batch: int = 512
    num_gpu: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int | None = None
    rope_frequency_base: float | None = None
    rope_frequency_scale: float | None = None
    f16_kv: bool | None = None  # False: the KV cache in 32-bit floats
    use_mlock: bool | None = None
    numa: bool | None = None


class Sampling(Part, frozen=True):
    """How the next token is chosen and when to stop. Names and defaults: contract 5."""

    num_predict: int | None = None  # None: up to 10 × num_ctx tokens
    num_keep: int = 4
    seed: int | None = None  # None: a random one
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    mirostat: int = 0  # 1 or 2: in place of top_k, top_p, min_p and typical_p
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    stop: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()  # token id, added to its logit


class AdapterRef(Part, frozen=True):
    """A LoRA adapter: the digest of its GGUF layer, and how strongly it is applied."""

    digest: str
    scale: float = 1.0


class UpstreamRef(Part, frozen=True):
    """Another program's engine that serves a model over HTTP, and how it is asked.

    `name` is what administrators call the engine, `model` what the engine calls the model, `kind`
    one of `inference.engine.upstream.options`. `url` is where the routes of OpenAI's dialect begin;
    `key`, empty for none, is shown nowhere. `first_s` and `silence_s` bound how long nothing of an
    answer comes, at its beginning and later.
    """

    name: str
    url: str
    kind: str
    model: str
    key: str = ""
    concurrency: int = 8  # requests at a time, of all its models; the others wait here
    connect_s: float = 10.0
    first_s: float = 300.0
    silence_s: float = 60.0
    total_s: float = 3600.0

    def __repr__(self) -> str:
        """Name it without its key."""
        return f"UpstreamRef({self.name!r}, {self.model!r})"


class ModelRef(Part, frozen=True):
    """The model a request is for.

    `digest` is the manifest's (64 hex, no prefix) and identifies it; `weights`, `projector` and
    the adapters' are digests of GGUF layers in the node's blob store; `name` is what `/api/ps`
    shows. Requests with the same weights, projector and adapters can share a runner. A model with
    an `upstream` has no weights here and is asked for of the site's own node alone. `size_bytes` is
    that of all layers together; 0: nobody has looked.
    """

    name: str
    digest: str
    weights: str
    adapters: tuple[AdapterRef, ...] = ()
    projector: str = ""  # empty: the model cannot see
    is_pinned: bool = False  # never evicted, never expires
    upstream: UpstreamRef | None = None
    size_bytes: int = 0

    @property
    def runner_key(self) -> str:
        """What identifies a runner: models with the same files, or of one engine, share one."""
        if self.upstream is not None:
            return f"upstream:{self.upstream.name}"
        parts = [self.weights]
        if self.projector:
            parts.append(self.projector)
        parts += [f"{adapter.digest}*{adapter.scale:g}" for adapter in self.adapters]
        return "+".join(parts)

    @property
    def files(self) -> tuple[str, ...]:
        """The digests of all its files."""
        adapters = (adapter.digest for adapter in self.adapters)
        return tuple(digest for digest in (self.weights, self.projector, *adapters) if digest)


# ---------------------------------------------------------------- web → node


class Hello(Wire, frozen=True):
    """First frame of a client. `secret` proves to a node on another machine who it is."""

    protocol: int
    client: str
    secret: str = ""


class Generate(Wire, frozen=True):
    """Generate text. Answered by Started, Token… and exactly one Finished or Failed.

    `user` is who is charged in the fair queue, `weight` their share in it; `key_name` is what their
    key is called, empty where they have signed in. `call_id` is what the web process calls the
    request that this is a part of, for the log. Tokens in the KV cache are shared between requests
    of one `cache_group`; tokens of the model's own manifest are shared by all requests of that
    model (`ModelRef.digest`).
    """

    request_id: str
    model: ModelRef
    runner: RunnerOptions
    prompt: ChatPrompt | RawPrompt | TokensPrompt | FillPrompt
    sampling: Sampling
    user: str = ""
    key_name: str = ""
    call_id: str = ""
    weight: float = 1.0
    priority: Priority = Priority.API
    cache_group: str = ""  # empty: nobody but the same user
    keep_alive_s: float | None = None  # None: the runner's current value; infinite: for ever
    truncate: bool = True
    shift: bool = True  # a full window drops its older half; False: the answer ends there
    wants_context: bool = False  # Finished.context is filled
    choices: int = 1  # answers to the same prompt; more than one: ChoiceEnded tells of each
    top_logprobs: int | None = None  # None: no logprobs; else how many alternatives
    scores_prompt: bool = False  # PromptScored comes before the first Token
    json_schema: str = ""  # JSON text of a schema that the answer must satisfy
    splits_thinking: bool = False  # thinking comes apart from the text, a schema holds behind it
    output_parser: str = ""  # the manifest's name of how the model writes thinking and calls
    renders_only: bool = False  # answered by Rendered and Finished, nothing is computed
    counts_tokens: bool = False  # with renders_only: Rendered.prompt_tokens is filled
    forced_tools: tuple[str, ...] = ()  # the answer is calls of these and nothing else
    most_calls: int | None = None  # an answer ends behind so many calls
    # Which fields of `sampling` somebody has asked for; an upstream decides the others itself.
    asked_options: tuple[str, ...] = ()


class Embed(Wire, frozen=True):
    """Turn inputs into vectors. Answered by Embedded… and one Finished or Failed."""

    request_id: str
    model: ModelRef
    runner: RunnerOptions
    inputs: tuple[str | tuple[int, ...], ...]  # texts, or token ids
    user: str = ""
    key_name: str = ""
    call_id: str = ""
    weight: float = 1.0
    priority: Priority = Priority.API
    keep_alive_s: float | None = None
    truncate: bool = True  # False: an input longer than the window fails the request
    normalize: bool = True  # False: the vectors keep their length (/api/embeddings)


class Load(Wire, frozen=True):
    """Bring a model into memory. Ends in Finished(reason=LOAD) or Failed."""

    request_id: str
    model: ModelRef
    runner: RunnerOptions
    user: str = ""
    key_name: str = ""
    call_id: str = ""
    keep_alive_s: float | None = None


class Unload(Wire, frozen=True):
    """Drop a model when idle. Ends in Finished(reason=UNLOAD), also if it was not in memory."""

    request_id: str
    model: ModelRef
    call_id: str = ""


class Cancel(Wire, frozen=True):
    """The caller is gone. The request ends in Failed(CANCELLED) if it had not ended yet."""

    request_id: str


class Ping(Wire, frozen=True):
    """Heartbeat; answered by Pong."""


# ---------------------------------------------------------------- node → web


class Welcome(Wire, frozen=True):
    """Answer to Hello. `at_ms`: the node's clock, since 1970; 0: it does not tell."""

    protocol: int
    node: str
    at_ms: int = 0


class Pong(Wire, frozen=True):
    """Answer to Ping."""


class DoneReason(enum.StrEnum):
    """Why a request finished (the wire's `done_reason`)."""

    STOP = "stop"
    LENGTH = "length"
    LOAD = "load"
    UNLOAD = "unload"


class FailureCode(enum.StrEnum):
    """Why a request failed. `inference.engine_stream` maps every one to a ServiceError."""

    BAD_REQUEST = "bad_request"
    TEMPLATE_FAILED = "template_failed"
    PROMPT_TOO_LONG = "prompt_too_long"
    LOAD_FAILED = "load_failed"
    NO_ROOM = "no_room"  # of memory or places for the model, on this node
    RUNNER_CRASHED = "runner_crashed"
    QUEUE_FULL = "queue_full"
    CANCELLED = "cancelled"
    SHUTTING_DOWN = "shutting_down"
    CONNECTION_LOST = "connection_lost"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_FAILED = "upstream_failed"
    INTERNAL = "internal"


class Started(Wire, frozen=True):
    """The request left the queue and its prompt is being computed.

    The node fills in the queue's figures; position 0: it did not wait.
    """

    request_id: str
    prompt_tokens: Tokens
    cached_tokens: Tokens = 0
    queue_ns: Nanoseconds = 0
    queue_position: int = 0


class TopToken(Part, frozen=True):
    """A token that could have come instead."""

    token: bytes
    logprob: float


class TokenLogprob(Part, frozen=True):
    """A token's natural log probability; `top` has the most probable tokens, best first.

    Computed from the model's logits before any sampling option. The first token of a prompt has
    none: 0.0.
    """

    token: bytes
    logprob: float
    top: tuple[TopToken, ...] = ()


class PromptScored(Wire, frozen=True):
    """The log probabilities of the prompt's tokens, in order."""

    request_id: str
    logprobs: tuple[TokenLogprob, ...]


class Rendered(Wire, frozen=True):
    """The prompt as the template made it, in answer to `renders_only`."""

    request_id: str
    text: str
    image_count: int = 0
    prompt_tokens: int = 0  # images included; only where they were to be counted


class Token(Wire, frozen=True):
    """A piece of an answer: whole UTF-8 characters, one or several tokens' worth.

    `text` is for the caller, `thinking` came before it, `tool_calls` are complete. All may be empty
    where `logprobs` is not.
    """

    request_id: str
    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


class ChoiceEnded(Wire, frozen=True):
    """One of several choices is complete; Finished comes after the last of them."""

    request_id: str
    choice: int
    reason: DoneReason
    stop_sequence: str = ""  # of `Sampling.stop`, the one that ended it


class Embedded(Wire, frozen=True):
    """Vectors of a run of inputs: little-endian float32, L2-normalized where `normalize` was."""

    request_id: str
    first: int  # index of the first of them among the inputs
    vectors: tuple[bytes, ...]


class Finished(Wire, frozen=True):
    """A request's good end. `text` may hold the last piece."""

    request_id: str
    reason: DoneReason
    text: str = ""
    usage: Usage = Usage()
    context: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()  # of `text`
    stop_sequence: str = ""  # of `Sampling.stop`, the one that ended a single choice


class Failed(Wire, frozen=True):
    """A request's bad end. `usage`: what it has used until then; the node fills it in."""

    request_id: str
    code: FailureCode
    message: str
    usage: Usage = Usage()


class Events(Wire, frozen=True):
    """All events of one decode step for one connection."""

    events: tuple[
        Started | PromptScored | Rendered | Token | ChoiceEnded | Embedded | Finished | Failed, ...
    ]


Request = Generate | Embed | Load
Event = Started | PromptScored | Rendered | Token | ChoiceEnded | Embedded | Finished | Failed
ToNode = (
    Hello
    | Generate
    | Embed
    | Load
    | Unload
    | Cancel
    | Withdraw
    | ListLoaded
    | GetQueue
    | GetCounters
    | GetEnds
    | GetMetrics
    | Ping
)
FromNode = (
    Welcome
    | Pong
    | Events
    | LoadedModels
    | QueueState
    | Counters
    | Ends
    | NodeMetrics
    | Withdrawn
    | NodeReport
)
