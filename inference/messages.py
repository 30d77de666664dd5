"""Everything that crosses a process boundary between web, node and runner, and its one codec.

A frame on a stream is a 4-byte big-endian length followed by one msgpack value, a tagged struct
of this module. The same structs travel web → node and node → runner, so a request is described
once. Knows nothing of Django, HTTP, sockets' owners or llama.cpp.

Times are monotonic durations in nanoseconds (`_ns`) or seconds (`_s`); counts are tokens.
"""

import enum
import struct
from typing import Any, Final, Generic, TypeVar

import msgspec

PROTOCOL_VERSION: Final = 1
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Base of every struct that is sent on its own: the class name is its tag."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of structs that are only ever fields of a `Wire`."""


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


class ChatPrompt(Part, frozen=True, tag="chat"):
    """Messages to be put through the model's template by the runner.

    `messages` already holds the model's own system text and stored messages (contract 6.1).
    `context` are token ids of an earlier answer, put in front (contract 6.10).
    """

    messages: tuple[ChatMessage, ...]
    template: str
    tools: tuple[dict[str, Any], ...] = ()
    think: bool | str | None = None
    context: tuple[int, ...] = ()


class RawPrompt(Part, frozen=True, tag="raw"):
    """Text that reaches the tokenizer as it is."""

    text: str


class RunnerOptions(Part, frozen=True):
    """What a runner is started with; a difference means another runner (contract 5, 7)."""

    num_ctx: int
    num_batch: int = 512
    num_gpu: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int | None = None


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
    stop: tuple[str, ...] = ()


class ModelRef(Part, frozen=True):
    """The model a request is for.

    `digest` is the manifest's (64 hex, no prefix) and identifies it; `weights` is the digest of
    the GGUF layer in the node's blob store; `name` is what `/api/ps` shows.
    """

    name: str
    digest: str
    weights: str


# ---------------------------------------------------------------- web → node


class Hello(Wire, frozen=True):
    """First frame of a client."""

    protocol: int
    client: str


class Generate(Wire, frozen=True):
    """Generate text. Answered by Started, Token… and exactly one Finished or Failed."""

    request_id: str
    model: ModelRef
    runner: RunnerOptions
    prompt: ChatPrompt | RawPrompt
    sampling: Sampling
    user: str = ""
    keep_alive_s: float | None = None  # None: the runner's current value; infinite: for ever
    truncate: bool = True
    wants_context: bool = False  # Finished.context is filled


class Load(Wire, frozen=True):
    """Bring a model into memory. Ends in Finished(reason=LOAD) or Failed."""

    request_id: str
    model: ModelRef
    runner: RunnerOptions
    user: str = ""
    keep_alive_s: float | None = None


class Unload(Wire, frozen=True):
    """Drop a model when idle. Ends in Finished(reason=UNLOAD), also if it was not in memory."""

    request_id: str
    model: ModelRef


class Cancel(Wire, frozen=True):
    """The caller is gone. The request ends in Failed(CANCELLED) if it had not ended yet."""

    request_id: str


class ListLoaded(Wire, frozen=True):
    """Ask what is in memory. Answered by one LoadedModels."""

    request_id: str


class Ping(Wire, frozen=True):
    """Heartbeat; answered by Pong."""


# ---------------------------------------------------------------- node → web


class Welcome(Wire, frozen=True):
    """Answer to Hello."""

    protocol: int
    node: str


class Pong(Wire, frozen=True):
    """Answer to Ping."""


class DoneReason(enum.StrEnum):
    """Why a request finished (the wire's `done_reason`)."""

    STOP = "stop"
    LENGTH = "length"
    LOAD = "load"
    UNLOAD = "unload"


class FailureCode(enum.StrEnum):
    """Why a request failed. `inference.client` maps every one to a ServiceError."""

    BAD_REQUEST = "bad_request"
    TEMPLATE_FAILED = "template_failed"
    PROMPT_TOO_LONG = "prompt_too_long"
    LOAD_FAILED = "load_failed"
    RUNNER_CRASHED = "runner_crashed"
    QUEUE_FULL = "queue_full"
    CANCELLED = "cancelled"
    SHUTTING_DOWN = "shutting_down"
    CONNECTION_LOST = "connection_lost"
    INTERNAL = "internal"


class Usage(Part, frozen=True):
    """Counters of one finished request. `load_ns` runs from arrival to model ready."""

    prompt_tokens: int = 0
    prompt_eval_ns: int = 0
    completion_tokens: int = 0
    eval_ns: int = 0
    load_ns: int = 0
    queue_ns: int = 0


class Started(Wire, frozen=True):
    """The request left the queue and its prompt is being computed."""

    request_id: str
    prompt_tokens: int


class Token(Wire, frozen=True):
    """A piece of text: whole UTF-8 characters, one or several tokens' worth."""

    request_id: str
    text: str


class Finished(Wire, frozen=True):
    """A request's good end. `text` may hold the last piece."""

    request_id: str
    reason: DoneReason
    text: str = ""
    usage: Usage = Usage()
    context: tuple[int, ...] = ()


class Failed(Wire, frozen=True):
    """A request's bad end."""

    request_id: str
    code: FailureCode
    message: str


class LoadedModel(Part, frozen=True):
    """One model in memory. `expires_in_s` counts from now; None is never."""

    name: str
    digest: str
    size_bytes: int
    size_vram_bytes: int
    context_length: int
    expires_in_s: float | None


class LoadedModels(Wire, frozen=True):
    """Answer to ListLoaded, the latest expiry first."""

    request_id: str
    models: tuple[LoadedModel, ...]


class Events(Wire, frozen=True):
    """All events of one decode step for one connection."""

    events: tuple[Started | Token | Finished | Failed, ...]


# ---------------------------------------------------------------- node ↔ runner


class OpenModel(Wire, frozen=True):
    """First frame to a runner: what to load and how."""

    path: str
    options: RunnerOptions
    parallel: int
    threads: int
    # ggml's special weight layouts (AMX, repacking): faster, but some virtual machines announce
    # AMX and then fault on its first instruction.
    use_extra_buffers: bool = True


class Opened(Wire, frozen=True):
    """The runner's model is ready. Sizes are what llama.cpp reports, in bytes."""

    size_bytes: int
    size_vram_bytes: int
    context_length: int


class OpenFailed(Wire, frozen=True):
    """The model could not be loaded; the runner exits."""

    message: str


Request = Generate | Load
Event = Started | Token | Finished | Failed
ToNode = Hello | Generate | Load | Unload | Cancel | ListLoaded | Ping
FromNode = Welcome | Pong | Events | LoadedModels
ToRunner = OpenModel | Generate | Cancel
FromRunner = Opened | OpenFailed | Events

_encoder = msgspec.msgpack.Encoder()

T = TypeVar("T")


class ProtocolError(Exception):
    """A frame is too large or not of the expected type."""


def encode(message: Wire) -> bytes:
    """Return the frame of one message, length prefix included."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"frame of {len(body)} bytes is over {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


class FrameDecoder(Generic[T]):
    """Turn the bytes of one stream into messages of one of the unions above.

    Sans-IO: asyncio and blocking sockets use the same object. Raises ProtocolError on the first
    frame that does not fit; the stream is then of no further use.
    """

    def __init__(self, expected: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(expected)
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """Add bytes that arrived and return the messages that are now complete."""
        self._pending += data
        messages: list[T] = []
        start = 0
        while (end := self._frame_end(start)) is not None:
            messages.append(self._decode(self._pending[start + _LENGTH.size : end]))
            start = end
        del self._pending[:start]
        return messages

    def _frame_end(self, start: int) -> int | None:
        if len(self._pending) < start + _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._pending, start)
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"frame of {length} bytes is over {MAX_FRAME_BYTES}")
        end: int = start + _LENGTH.size + length
        return end if len(self._pending) >= end else None

    def _decode(self, body: bytearray) -> T:
        try:
            message: T = self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"unexpected frame: {error}") from error
        return message
