"""One loaded model in a process of its own: `python -m inference.engine.runner FD`.

A crash, an abort inside ggml or a hostile file ends this process only. It gets one socket, no
environment worth reading and limits on what it may do. Frames: `inference.engine.runner_messages`.
The socket's end is the order to leave. Knows no node, no other model and no user.
"""

import ctypes
import logging
import resource
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

from msgspec import structs

from inference.engine.batch import BatchLoop
from inference.engine.confinement import confine
from inference.engine.embedding import Embedder, EmbedLoop
from inference.engine.intake import Intake
from inference.engine.llama import opening
from inference.engine.llama.embedding_model import LlamaEmbeddingModel
from inference.engine.llama.model import LlamaModel, open_model
from inference.engine.model import LoadError, Model
from inference.engine.prompt import Prepared
from inference.engine.runner_messages import (
    Charge,
    Opened,
    OpenFailed,
    OpenModel,
    Pause,
    Proceed,
    Resume,
    Step,
    ToRunner,
)
from inference.frames import FrameDecoder, encode
from inference.messages import Cancel, Embed, Event, Failed, FailureCode, Finished, Generate, Wire

logger = logging.getLogger(__name__)

_MOST_FILES: Final = 1024  # CUDA opens some dozens for each GPU
_M_MMAP_THRESHOLD: Final = -3
_MIB: Final = 2**20
_READ_BYTES: Final = 256 * 1024
_PULSE_S: Final = 10.0  # a sign of life while a prompt is prepared; the node's watchdog listens
NOT_GENERATING: Final = "the model is made for embedding; it does not generate"


class Channel:
    """The blocking side of the runner's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._decoder: FrameDecoder[Wire] = FrameDecoder(ToRunner)
        self.is_open = True

    def receive(self, timeout_s: float | None, *, beside: int | None = None) -> list[Wire]:
        """Return the messages that have come.

        Sleeps until there is something or `beside` is readable, as long as the timeout allows
        (None: for ever).
        """
        own = self._socket.fileno()
        sources = [own] if beside is None else [own, beside]
        readable, _, _ = select.select(sources, [], [], timeout_s)
        if own not in readable:
            return []
        data = self._socket.recv(_READ_BYTES)
        self.is_open = bool(data)
        return self._decoder.feed(data)

    def next(self) -> Wire | None:
        """Wait for one message that comes alone; None: the node has gone."""
        while self.is_open:
            for message in self.receive(None):
                return message
        return None

    def send(self, message: Wire) -> None:
        """Send one message, waiting while the node does not read."""
        self._socket.sendall(encode(message))


class Runner:
    """The requests of one model: prepared beside the loops, computed in them.

    Without a model nothing is generated, only embedded.
    """

    def __init__(
        self,
        model: Model | None,
        make_embedder: Callable[[], Embedder],
        *,
        parallel: int,
        store_bytes: int,
    ) -> None:
        self._model = model
        self._known_size = model.size_bytes if model else 0
        self._intake = Intake(model) if model else None
        self._loop = BatchLoop(model, parallel=parallel, store_bytes=store_bytes) if model else None
        self._embeds = EmbedLoop(make_embedder)
        self._refused: list[Event] = []
        self._call_ids: dict[str, str] = {}  # by request's id, for the log

    @property
    def may_sleep_s(self) -> float | None:
        """How long `step` has nothing to do unless something comes; None: for ever."""
        answers_wait = self._loop is not None and not self._loop.is_idle
        if answers_wait or self._refused or not self._embeds.is_idle:
            return 0.0
        is_preparing = self._intake is not None and self._intake.is_busy
        return _PULSE_S if is_preparing else None

    @property
    def wakes_on(self) -> int | None:
        """A file descriptor that becomes readable when `step` has something new to do."""
        return self._intake.fileno() if self._intake else None

    def receive(self, message: Wire) -> None:
        """Take a message of the node."""
        if isinstance(message, Generate | Embed):
            self._call_ids[message.request_id] = message.call_id
        match message:
            case Generate():
                self._generate(message)
            case Embed():
                self._embeds.add(message)
            case Cancel(request_id=request_id):
                self._cancel(request_id)
            case Pause(request_id=request_id) if self._loop and self._has(request_id):
                self._loop.pause(request_id)
            case Resume(request_id=request_id) if self._loop:
                self._loop.resume(request_id)

    def step(self) -> Step:
        """Compute one step of each loop with what is prepared."""
        events, self._refused = self._refused, []
        charges: list[Charge] = []
        begun_ns = time.perf_counter_ns()
        if self._loop and self._intake:
            for prepared in self._intake.take():
                if isinstance(prepared, Prepared):
                    self._loop.add(prepared)
                else:
                    self._loop.resume(prepared.request_id)
                    events += prepared.events
            new_events, charges = self._loop.step()
            events += new_events
        embedded, embed_charges = self._embeds.step()
        shared = _shared([*charges, *embed_charges], time.perf_counter_ns() - begun_ns)
        step = Step(events=(*events, *embedded), charges=shared)
        self._log_ends(step)
        model = self._model
        if model is None or model.size_bytes == self._known_size:
            return step
        self._known_size = model.size_bytes
        sizes = {"size_bytes": model.size_bytes, "size_vram_bytes": model.size_vram_bytes}
        return structs.replace(step, **sizes)

    def _log_ends(self, step: Step) -> None:
        for event in step.events:
            if not isinstance(event, Finished | Failed):
                continue
            call_id = self._call_ids.pop(event.request_id, "")
            how = event.code if isinstance(event, Failed) else event.reason
            logger.info("%s of request %s ended: %s", event.request_id, call_id, how.value)

    def _has(self, request_id: str) -> bool:
        """Whether a request has not ended; the node may not know yet that it has."""
        is_pending = self._intake is not None and self._intake.is_pending(request_id)
        return is_pending or (self._loop is not None and self._loop.has(request_id))

    def _generate(self, request: Generate) -> None:
        if self._intake:
            self._intake.submit(request)
        else:
            self._refuse(request.request_id, FailureCode.BAD_REQUEST, NOT_GENERATING)

    def _cancel(self, request_id: str) -> None:
        if self._loop and self._intake and self._intake.drop(request_id):
            self._loop.resume(request_id)
            self._refuse(request_id, FailureCode.CANCELLED, "request canceled")
            return
        if self._loop:
            self._loop.cancel(request_id)
        self._embeds.cancel(request_id)

    def _refuse(self, request_id: str, code: FailureCode, message: str) -> None:
        self._refused.append(Failed(request_id=request_id, code=code, message=message))


def _shared(charges: list[Charge], step_ns: int) -> tuple[Charge, ...]:
    """Return the charges of a step, each with its share of the step's time: by its tokens."""
    left_ns = step_ns
    left_tokens = sum(charge.prompt_tokens + charge.completion_tokens for charge in charges)
    shared = []
    for charge in charges:
        tokens = charge.prompt_tokens + charge.completion_tokens
        share_ns = left_ns * tokens // left_tokens if left_tokens else 0
        left_ns -= share_ns
        left_tokens -= tokens
        shared.append(structs.replace(charge, compute_ns=share_ns))
    return tuple(shared)


def main() -> None:
    """Serve one model until the node closes the socket."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    _confine()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    request = channel.next()
    if not isinstance(request, OpenModel):
        return
    try:
        model = _opened(channel, request)
    except LoadError as error:
        channel.send(OpenFailed(message=str(error)))
        return
    if model is not None:
        serve(channel, _runner(model, request))


def serve(channel: Channel, runner: Runner) -> None:
    """Pass messages in and steps out until the node has gone."""
    while True:
        messages = channel.receive(runner.may_sleep_s, beside=runner.wakes_on)
        if not channel.is_open:
            return
        for message in messages:
            runner.receive(message)
        # Also a step that brings nothing is sent: it is the runner's pulse.
        channel.send(runner.step())


def _runner(model: LlamaModel | LlamaEmbeddingModel, request: OpenModel) -> Runner:
    sizes = {"parallel": request.parallel, "store_bytes": request.prefix_store_bytes}
    if isinstance(model, LlamaModel):
        return Runner(model, model.new_embedder, **sizes)
    return Runner(None, lambda: model.embedder, **sizes)


def _opened(channel: Channel, request: OpenModel) -> LlamaModel | LlamaEmbeddingModel | None:
    """Tell what the load will take, wait for the word, load. None: the node has gone."""
    channel.send(opening.measure(request))
    proceed = channel.next()
    if not isinstance(proceed, Proceed):
        return None
    if proceed.memory_limit_bytes:
        limit = proceed.memory_limit_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    model = open_model(request)
    channel.send(
        Opened(
            size_bytes=model.size_bytes,
            size_vram_bytes=model.size_vram_bytes,
            context_length=model.window_tokens,
            threads=model.threads,
        )
    )
    return model


def _confine() -> None:
    confine(most_files=_MOST_FILES)
    # States that leave the prefix cache go back to the system at once. By default glibc raises the
    # threshold with every large block that is freed, and the heap kept a third more than was used.
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2 * _MIB)


if __name__ == "__main__":
    main()
