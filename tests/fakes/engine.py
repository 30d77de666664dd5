"""An inference node without a model: a socket server that answers by script.

Speaks `inference.messages` over a real unix socket, records every frame it gets, and passes
`tests/inference/test_engine_suite.py` like the real node. Knows no Django.
"""

import asyncio
import contextlib
import hashlib
import math
import struct
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from inference.engine.meters import Meters
from inference.frames import FrameDecoder, ProtocolError, encode
from inference.messages import (
    PROTOCOL_VERSION,
    Cancel,
    ChatPrompt,
    ChoiceEnded,
    Counters,
    DoneReason,
    Embed,
    Embedded,
    Event,
    Events,
    Failed,
    FailureCode,
    FillPrompt,
    Finished,
    Generate,
    GetCounters,
    GetMetrics,
    GetQueue,
    Hello,
    ListLoaded,
    Load,
    LoadedModel,
    LoadedModels,
    LoadFailure,
    NodeReport,
    Ping,
    Pong,
    PromptScored,
    QueueState,
    RawPrompt,
    Rendered,
    RunningEntry,
    Started,
    Token,
    TokenLogprob,
    TokensPrompt,
    ToNode,
    ToolCall,
    Unload,
    Usage,
    Welcome,
    Wire,
    Withdraw,
    Withdrawn,
)

T = TypeVar("T", bound=Wire)

MISSING_WEIGHTS = "0" * 64
FAKE_WIDTH = 8  # of vectors
# For a busy machine. Tests beat no heart: nothing but an event brings about what they wait for.
PATIENCE_S = 30.0
USAGE = Usage(
    prompt_tokens=10,
    prompt_eval_ns=38_680_000,
    completion_tokens=3,
    eval_ns=240_530_000,
    load_ns=551_990,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How one Generate or Load is answered. `pieces` come first, whatever follows.

    A piece that is an event is sent as it is, but for the request's id: `Token(request_id="",
    thinking="Hm.")`. Who only wants the prompt rendered gets `rendered`, if it is not empty, or
    the prompt's own texts; its tokens are counted as words.
    """

    pieces: tuple[str | PromptScored | Token | ChoiceEnded, ...] = ("Hello", ".")
    rendered: str = ""
    last_text: str = ""
    last_logprobs: tuple[TokenLogprob, ...] = ()
    queue_ns: int = 0  # told in Started
    queue_position: int = 0
    reason: DoneReason = DoneReason.STOP
    usage: Usage = USAGE
    stop_sequence: str = ""  # told in Finished
    context: tuple[int, ...] = (1, 2, 3)
    pause_s: float = 0.0  # before every event
    failure: FailureCode | None = None
    failure_message: str = ""
    is_held: bool = False  # stays silent after the pieces until it is cancelled
    cuts_connection: bool = False  # the node goes away after the pieces
    is_coalesced: bool = False  # all events in one frame


class FakeNode:
    """A node on a unix socket; `scripts` are used up in turn, then `default` for ever.

    Without either, a forced tool is called without arguments. `queue` is told as it stands, with
    the requests that are being answered behind it as running.
    """

    def __init__(
        self, socket_path: Path, *, protocol: int = PROTOCOL_VERSION, name: str = "fake"
    ) -> None:
        self.socket_path = socket_path
        self.name = name
        self.report: NodeReport | None = None  # sent behind Welcome, and by `tell_report`
        self.protocol = protocol
        self.received: list[Wire] = []
        self.scripts: deque[Script] = deque()
        self.default: Script | None = None
        self.loaded: dict[str, LoadedModel] = {}
        self.queue = QueueState(request_id="", entries=(), running=0, slots=0)
        self.memory_bytes: int | None = 8_000_000_000
        self.failures: tuple[LoadFailure, ...] = ()
        self.meters = Meters()
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, path=self.socket_path)

    def tell_report(self, report: NodeReport) -> None:
        """Report to all that are connected, and to all that come."""
        self.report = report
        for connection in self._connections:
            connection.send(report)

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cut()
        for connection in list(self._connections):
            await connection.gone.wait()
        self.socket_path.unlink(missing_ok=True)

    def got(self, kind: type[T]) -> list[T]:
        """Return the frames of one kind, in order of arrival."""
        return [message for message in self.received if isinstance(message, kind)]

    async def wait_for(self, kind: type[T], *, count: int = 1, timeout_s: float = PATIENCE_S) -> T:
        """Wait until `count` frames of a kind have come and return the last of them."""
        async with asyncio.timeout(timeout_s):
            while len(self.got(kind)) < count:
                self._news.clear()
                await self._news.wait()
        return self.got(kind)[count - 1]

    def record(self, message: Wire) -> None:
        """Keep a frame for the test."""
        self.received.append(message)
        self._news.set()

    def script_for(self, request: Generate | Load | Embed) -> Script:
        """Return how to answer."""
        if self.scripts:
            return self.scripts.popleft()
        if self.default is not None:
            return self.default
        if request.model.weights == MISSING_WEIGHTS:
            message = "the model's file is missing"
            return Script(pieces=(), failure=FailureCode.LOAD_FAILED, failure_message=message)
        if isinstance(request, Generate) and request.forced_tools:
            call = ToolCall(name=request.forced_tools[0], arguments={}, id="call_fake0001")
            return Script(pieces=(Token(request_id="", tool_calls=(call,)),))
        if isinstance(request, Generate) and request.sampling.num_predict:
            count = request.sampling.num_predict
            return Script(pieces=("word ",) * count, reason=DoneReason.LENGTH, pause_s=0.002)
        return Script()

    def note_loaded(self, request: Generate | Load | Embed) -> None:
        """A request brings its model into memory."""
        keep_alive_s = 300.0 if request.keep_alive_s is None else request.keep_alive_s
        self.loaded[request.model.digest] = LoadedModel(
            name=request.model.name,
            digest=request.model.digest,
            size_bytes=209_505_483,
            size_vram_bytes=0,
            context_length=request.runner.num_ctx,
            expires_in_s=None if keep_alive_s == float("inf") else keep_alive_s,
        )

    def queue_state(self) -> QueueState:
        """Return what is told of the queue."""
        running = [
            RunningEntry(
                request_id=request.request_id,
                model=request.model.name,
                digest=request.model.digest,
                user=request.user,
                priority=request.priority,
                age_s=1.0,
                key_name=request.key_name,
            )
            for connection in self._connections
            for request in connection.requests.values()
            if not isinstance(request, Load)
        ]
        on_slots = (*self.queue.on_slots, *running)
        count = self.queue.running + len(running)
        return structs.replace(self.queue, on_slots=on_slots, running=count)

    def withdraw(self, request_id: str) -> bool:
        """End a request, of whichever connection, or one that only the test has put in."""
        told = self.queue
        self.queue = structs.replace(
            told,
            entries=tuple(e for e in told.entries if e.request_id != request_id),
            on_slots=tuple(e for e in told.on_slots if e.request_id != request_id),
        )
        owners = [c for c in self._connections if request_id in c.requests]
        for connection in owners:
            connection.cancel(request_id)
        return bool(owners) or self.queue != told

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        self._connections.add(connection)
        try:
            await connection.serve(reader)
        finally:
            self._connections.discard(connection)


class _Connection:
    def __init__(self, node: FakeNode, writer: asyncio.StreamWriter) -> None:
        self._node = node
        self._writer = writer
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.requests: dict[str, Generate | Load | Embed] = {}  # not ended yet
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader) -> None:
        decoder: FrameDecoder[Wire] = FrameDecoder(ToNode)
        try:
            while data := await reader.read(65536):
                for message in decoder.feed(data):
                    self._node.record(message)
                    self._receive(message)
        except (OSError, ProtocolError):
            pass
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writer.close()
            self.gone.set()

    def cut(self) -> None:
        self._writer.transport.abort()

    def _receive(self, message: Wire) -> None:
        match message:
            case Hello(protocol=protocol):
                self.send(Welcome(protocol=self._node.protocol, node=self._node.name))
                if self._node.report is not None:
                    self.send(self._node.report)
                if protocol != self._node.protocol:
                    self._writer.close()
            case Ping() | ListLoaded() | GetQueue() | GetCounters() | GetMetrics() | Withdraw():
                self.send(self._reply(message))
            case Unload(request_id=request_id, model=model):
                self._node.loaded.pop(model.digest, None)
                self._tell(Finished(request_id=request_id, reason=DoneReason.UNLOAD))
            case Generate() | Load() | Embed():
                self.requests[message.request_id] = message
                task = asyncio.create_task(self._answer(message))
                self._tasks[message.request_id] = task
            case Cancel(request_id=request_id):
                self.cancel(request_id)

    def _reply(
        self, question: Ping | ListLoaded | GetQueue | GetCounters | GetMetrics | Withdraw
    ) -> Wire:
        match question:
            case ListLoaded(request_id=request_id):
                loaded = sorted(self._node.loaded.values(), key=_expiry_of, reverse=True)
                return LoadedModels(
                    request_id=request_id,
                    models=tuple(loaded),
                    node=self._node.name,
                    memory_bytes=self._node.memory_bytes,
                    failures=self._node.failures,
                )
            case GetQueue(request_id=request_id):
                return structs.replace(self._node.queue_state(), request_id=request_id)
            case Withdraw(request_id=request_id, withdrawn_id=withdrawn_id):
                was_there = self._node.withdraw(withdrawn_id)
                return Withdrawn(request_id=request_id, was_there=was_there)
            case GetCounters(request_id=request_id):
                return Counters(request_id=request_id)
            case GetMetrics(request_id=request_id):
                state = structs.replace(self._node.queue, request_id=request_id)
                return self._node.meters.told(state, node="fake", up_s=1.0)
            case Ping():
                return Pong()

    def cancel(self, request_id: str) -> None:
        task = self._tasks.pop(request_id, None)
        if task is not None and not task.done():
            task.cancel()
            self._tell(
                Failed(
                    request_id=request_id,
                    code=FailureCode.CANCELLED,
                    message="request canceled",
                )
            )

    async def _answer(self, request: Generate | Load | Embed) -> None:
        script = self._node.script_for(request)
        events: list[Event] = []
        async for event in _events(script, request):
            if isinstance(event, Finished):
                self._node.note_loaded(request)
            if script.is_coalesced:
                events.append(event)
                continue
            if isinstance(event, Finished | Failed):
                self._tasks.pop(request.request_id, None)
            self._tell(event)
        if script.cuts_connection:
            await asyncio.sleep(0.02)  # what was sent shall arrive
            self.cut()
        elif events:
            self._tasks.pop(request.request_id, None)
            self._tell(*events)

    def _tell(self, *events: Any) -> None:
        for event in events:
            if isinstance(event, Finished | Failed):
                self.requests.pop(event.request_id, None)
        self.send(Events(events=events))

    def send(self, message: Wire) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(message))


async def _events(script: Script, request: Generate | Load | Embed) -> AsyncIterator[Event]:
    request_id = request.request_id
    if isinstance(request, Generate) and not request.renders_only:
        if script.pieces:
            yield Started(
                request_id=request_id,
                prompt_tokens=script.usage.prompt_tokens,
                queue_ns=script.queue_ns,
                queue_position=script.queue_position,
            )
        for piece in script.pieces:
            await asyncio.sleep(script.pause_s)
            event = Token(request_id="", text=piece) if isinstance(piece, str) else piece
            yield structs.replace(event, request_id=request_id)
    await asyncio.sleep(script.pause_s)
    if script.is_held:
        await asyncio.Event().wait()
    if script.cuts_connection:
        return
    if script.failure is not None:
        yield Failed(request_id=request_id, code=script.failure, message=script.failure_message)
    else:
        for last in _good_end(script, request):
            yield last


def _shown(script: Script, request: Generate) -> Rendered:
    match request.prompt:
        case ChatPrompt(messages=messages):
            text = "\n".join(f"{message.role}: {message.content}" for message in messages)
            images = sum(len(message.images) for message in messages)
        case RawPrompt(text=text, images=found):
            images = len(found)
        case FillPrompt(prefix=prefix, suffix=suffix):
            text, images = prefix + suffix, 0
        case TokensPrompt(tokens=tokens):
            text, images = " ".join(map(str, tokens)), 0
    text = script.rendered or text
    return Rendered(
        request_id=request.request_id,
        text=text,
        image_count=images,
        prompt_tokens=len(text.split()) if request.counts_tokens else 0,
    )


def _good_end(script: Script, request: Generate | Load | Embed) -> tuple[Event, ...]:
    request_id = request.request_id
    match request:
        case Load():
            return (Finished(request_id=request_id, reason=DoneReason.LOAD),)
        case Embed(inputs=inputs):
            vectors = tuple(fake_vector(value, request) for value in inputs)
            end = Finished(request_id=request_id, reason=DoneReason.STOP, usage=script.usage)
            return (Embedded(request_id=request_id, first=0, vectors=vectors), end)
        case Generate(renders_only=True):
            return _shown(script, request), Finished(request_id=request_id, reason=DoneReason.STOP)
        case Generate(wants_context=wants_context):
            end = Finished(
                request_id=request_id,
                reason=script.reason,
                text=script.last_text,
                logprobs=script.last_logprobs,
                usage=script.usage,
                context=script.context if wants_context else (),
                stop_sequence=script.stop_sequence,
            )
            return (end,)


def fake_vector(value: str | tuple[int, ...], request: Embed) -> bytes:
    """Return the same vector for the same input, of length 1 unless the request says otherwise."""
    digest = hashlib.sha256(repr(value).encode()).digest()
    numbers = [byte / 16 - 8 for byte in digest[:FAKE_WIDTH]]
    length = math.hypot(*numbers) if request.normalize else 1.0
    return struct.pack(f"<{FAKE_WIDTH}f", *(number / length for number in numbers))


def _expiry_of(model: LoadedModel) -> float:
    return float("inf") if model.expires_in_s is None else model.expires_in_s


@contextlib.asynccontextmanager
async def running_node(**settings: Any) -> AsyncIterator[FakeNode]:
    """Run a fake node on a socket of its own."""
    with tempfile.TemporaryDirectory(prefix="fake-node-") as folder:
        node = FakeNode(Path(folder) / "engine.sock", **settings)
        await node.start()
        try:
            yield node
        finally:
            await node.stop()
