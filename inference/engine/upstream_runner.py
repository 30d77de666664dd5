"""The runner of a model that an engine elsewhere serves: `python -m …upstream_runner FD`.

To the node it is like any other (`inference.engine.runner_messages`), and so are the requests that
it has. It gets one socket, no environment worth reading, and with each request whom to ask.
The socket's end is the order to leave. Knows no node and no user.
"""

import asyncio
import logging
import socket
import sys
import time
from typing import Final

import msgspec

from inference.engine.confinement import confine
from inference.engine.runner_messages import Charge, Opened, OpenUpstream, Step, ToRunner
from inference.engine.upstream import bodies, embeddings
from inference.engine.upstream.asking import Asker
from inference.engine.upstream.chunks import chunk_decoder
from inference.engine.upstream.events import Reading
from inference.engine.upstream.failures import UpstreamError, failed
from inference.frames import FrameDecoder, encode
from inference.messages import (
    Cancel,
    DoneReason,
    Embed,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Started,
    UpstreamRef,
    Usage,
    Wire,
)

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 256 * 1024
_PULSE_S: Final = 10.0  # a sign of life while the engine computes; the node's watchdog listens
_MOST_FILES: Final = 8192  # a connection for each request
_END: Final = b"[DONE]"


class UpstreamRunner:
    """The requests of one model, each a task. Runs on the event loop that it is made on."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._asker = Asker()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._events: list[Event] = []
        self._charges: list[Charge] = []
        self._flushing: asyncio.Handle | None = None
        self._pulse: asyncio.TimerHandle | None = None

    def receive(self, message: Wire) -> None:
        """Take a message of the node."""
        match message:
            case OpenUpstream(context_length=context_length):
                self._send(Opened(size_bytes=0, size_vram_bytes=0, context_length=context_length))
            case Generate():
                self._begin(message, asyncio.create_task(self._generate(message)))
            case Embed():
                self._begin(message, asyncio.create_task(self._embed(message)))
            case Cancel(request_id=request_id) if task := self._tasks.get(request_id):
                task.cancel()

    async def close(self) -> None:
        """End what runs; nobody hears of it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._asker.close()

    # ------------------------------------------------------------ requests

    def _begin(self, request: Generate | Embed, task: asyncio.Task[None]) -> None:
        self._tasks[request.request_id] = task
        task.add_done_callback(lambda task: self._ended(request, task))
        self._schedule_pulse()

    def _ended(self, request: Generate | Embed, task: asyncio.Task[None]) -> None:
        """Tell the end of a request that has not told it itself."""
        request_id = request.request_id
        logger.info("%s of request %s ended", request_id, request.call_id)
        del self._tasks[request_id]
        if task.cancelled():
            self._fail(request_id, FailureCode.CANCELLED, "request canceled")
            return
        match task.exception():
            case None:
                pass
            case UpstreamError(code=code, message=message):
                self._fail(request_id, code, message)
            case error:
                logger.error("request %s", request_id, exc_info=error)
                words = "the engine's answer could not be read"
                self._fail(request_id, FailureCode.INTERNAL, words)

    def _fail(self, request_id: str, code: FailureCode, message: str) -> None:
        self._tell(Failed(request_id=request_id, code=code, message=message))

    async def _generate(self, request: Generate) -> None:
        upstream = _upstream_of(request)
        asked = bodies.generation(request, upstream)
        reading = Reading(request, upstream, time.perf_counter_ns)

        def take(data: bytes) -> bool:
            if data.strip() == _END:
                return False
            try:
                chunk = chunk_decoder.decode(data)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                raise failed(upstream, "sent a piece that cannot be read") from error
            events, charge = reading.take(chunk)
            self._tell(*events, charge=charge)
            return True

        await self._asker.stream(upstream, asked.route, msgspec.json.encode(asked.body), take)
        events, charge = reading.finish()
        self._tell(*events, charge=charge)

    async def _embed(self, request: Embed) -> None:
        upstream = _upstream_of(request)
        begun_ns = time.perf_counter_ns()
        total = 0
        for first, count in embeddings.runs(request.inputs):
            asked = bodies.embedding(request.inputs[first : first + count], upstream)
            body = await self._asker.read(upstream, asked.route, msgspec.json.encode(asked.body))
            embedded, tokens = embeddings.read_vectors(request, upstream, first, count, body)
            charge = Charge(
                request_id=request.request_id, prompt_tokens=tokens, completion_tokens=0
            )
            total += tokens
            if not first:
                self._tell(Started(request_id=request.request_id, prompt_tokens=tokens))
            self._tell(embedded, charge=charge)
        usage = Usage(prompt_tokens=total, prompt_eval_ns=time.perf_counter_ns() - begun_ns)
        self._tell(Finished(request_id=request.request_id, reason=DoneReason.STOP, usage=usage))

    # ------------------------------------------------------------ to the node

    def _tell(self, *events: Event, charge: Charge | None = None) -> None:
        """Have events sent with whatever else comes in this turn of the loop."""
        self._events += events
        if charge is not None:
            self._charges.append(charge)
        if self._flushing is None and (self._events or self._charges):
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        step = Step(events=tuple(self._events), charges=tuple(self._charges))
        self._events.clear()
        self._charges.clear()
        self._send(step)

    def _send(self, message: Wire) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    def _schedule_pulse(self) -> None:
        if self._pulse is None:
            self._pulse = asyncio.get_running_loop().call_later(_PULSE_S, self._beat)

    def _beat(self) -> None:
        self._pulse = None
        if self._tasks:
            self._send(Step())
            self._schedule_pulse()


def _upstream_of(request: Generate | Embed) -> UpstreamRef:
    upstream = request.model.upstream
    if upstream is None:
        raise UpstreamError(FailureCode.INTERNAL, "no engine is named")
    return upstream


async def serve(connection: socket.socket) -> None:
    """Pass requests on until the node has gone."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    decoder: FrameDecoder[Wire] = FrameDecoder(ToRunner)
    runner = UpstreamRunner(writer)
    try:
        while data := await reader.read(_READ_BYTES):
            for message in decoder.feed(data):
                runner.receive(message)
    finally:
        await runner.close()
        writer.close()


def main() -> None:
    """Serve one model until the node closes the socket."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    confine(most_files=_MOST_FILES)
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
