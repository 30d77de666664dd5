"""The web side of one node's socket: submit, stream, cancel.

One multiplexed connection per process, event loop and node, opened when first needed and again
after it was lost. Every submitted request ends exactly once, also when the connection does. Which
node a request goes to is `inference.fleet`'s business. Knows no user, no model row and no dialect;
runs on the event loop of its caller.
"""

import asyncio
import itertools
import logging
import os
import time
import uuid
from collections import Counter
from contextlib import suppress
from typing import Final

from msgspec import structs

from inference import errors
from inference.dialling import Where, dial, is_called, secret_for
from inference.engine_stream import EngineStream, Observer, Rescue, Submittable
from inference.frames import FrameDecoder, ProtocolError, encode
from inference.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Counters,
    Event,
    Events,
    Failed,
    FailureCode,
    Finished,
    FromNode,
    GetCounters,
    GetMetrics,
    GetQueue,
    Hello,
    ListLoaded,
    LoadedModel,
    LoadedModels,
    NodeMetrics,
    NodeReport,
    Ping,
    Pong,
    QueueState,
    Welcome,
    Wire,
    Withdraw,
    Withdrawn,
)
from ollamasite.errors import BodyTooLarge

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 5.0
SILENCE_S: Final = 20.0
CONNECT_TIMEOUT_S: Final = 5.0
# How long a process that goes waits for the ends of requests that it has cancelled.
LAST_WORDS_S: Final = 1.0
_LOOK_S: Final = 0.02
READ_BYTES: Final = 256 * 1024

Question = ListLoaded | GetQueue | GetCounters | GetMetrics | Withdraw


def _ignore(event: Event) -> None:
    """Take no note of a request's events."""
    del event


class _Connection:
    """One open connection to a node."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        node: str,
        decoder: FrameDecoder[Wire],
    ) -> None:
        self.node = node
        self._decoder = decoder
        self._reader = reader
        self._writer = writer
        self._streams: dict[str, EngineStream] = {}
        self._questions: dict[str, asyncio.Future[Wire]] = {}
        self.report: NodeReport | None = None
        self.in_flight: Counter[str] = Counter()  # requests that have not ended, by runner key
        self.in_flight_at_report: Counter[str] = Counter()
        self._heard_at = asyncio.get_running_loop().time()
        self.is_open = True
        self.lost_at = 0.0  # monotonic, once it is not open any more
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._beat())]

    @classmethod
    async def open(cls, where: Where) -> "_Connection":
        """Connect and shake hands. Raises EngineUnavailable."""
        decoder: FrameDecoder[Wire] = FrameDecoder(FromNode)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await dial(where)
                writer.write(encode(_hello(where)))
                welcome = await _first_messages(reader, decoder)
        except (OSError, TimeoutError, ProtocolError) as error:
            raise errors.EngineUnavailable from error
        match welcome:
            case [Welcome(protocol=protocol), *_] if protocol != PROTOCOL_VERSION:
                reason = "the inference service speaks another protocol version"
            case [Welcome(node=node), *more] if is_called(where, node):
                connection = cls(reader, writer, node, decoder)
                for message in more:
                    connection._receive(message)
                return connection
            case _:  # it is going down, or it is something else
                reason = ""
        writer.close()
        raise errors.EngineUnavailable(reason)

    def submit(self, stream: EngineStream) -> None:
        """Send a stream's request and have its events come to it.

        Raises BodyTooLarge, EngineUnavailable.
        """
        try:
            self._send(stream.request)  # first: what cannot be sent has no stream
        except ProtocolError as error:
            raise BodyTooLarge from error
        if not self.is_open:
            raise errors.EngineUnavailable
        stream.attach(self)
        self._streams[stream.request_id] = stream
        self.in_flight[stream.request.model.runner_key] += 1

    async def ask(self, question: Question) -> Wire:
        """Send a question and return its answer. Raises EngineUnavailable."""
        answer: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
        self._questions[question.request_id] = answer
        self._send(question)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await answer
        except TimeoutError as error:
            raise errors.EngineUnavailable from error
        finally:
            self._questions.pop(question.request_id, None)

    def cancel(self, request_id: str) -> None:
        """Tell the node that nobody waits for a request any more. Its end is still to come."""
        if request_id in self._streams and self.is_open:
            self._send(Cancel(request_id=request_id))

    async def wait_for_ends(self) -> None:
        """Wait until every request has ended, for LAST_WORDS_S at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while self._streams and self.is_open:  # noqa: ASYNC110 - once, at the very end
                    await asyncio.sleep(_LOOK_S)

    def close(self, code: FailureCode, message: str) -> None:
        """End the connection; what is still open fails with this code."""
        for task in self._tasks:
            task.cancel()
        self._lose(code, message)

    def _send(self, message: Wire) -> None:
        frame = encode(message)
        if self._writer.is_closing():  # cut off, and nobody has read that yet
            self._lose()
        else:
            self._writer.write(frame)

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(READ_BYTES):
                self._heard_at = asyncio.get_running_loop().time()
                for message in self._decoder.feed(data):
                    self._receive(message)
        except (OSError, ProtocolError) as error:
            logger.warning("engine connection failed: %s", error)
        finally:
            self._lose()

    def _receive(self, message: Wire) -> None:
        match message:
            case Events(events=events):
                for event in events:
                    self._deliver(event)
            case (
                LoadedModels(request_id=request_id)
                | QueueState(request_id=request_id)
                | Counters(request_id=request_id)
                | NodeMetrics(request_id=request_id)
                | Withdrawn(request_id=request_id)
            ):
                question = self._questions.get(request_id)
                if question is not None and not question.done():
                    question.set_result(message)
            case NodeReport():
                self.report = message
                self.in_flight_at_report = self.in_flight.copy()
            case Pong():
                pass

    def _deliver(self, event: Event) -> None:
        stream = self._streams.get(event.request_id)
        if stream is None:
            return
        if isinstance(event, Finished | Failed):
            del self._streams[event.request_id]
            self._forget(stream)
        if isinstance(event, Failed) and event.code is FailureCode.SHUTTING_DOWN and self.report:
            # Its next report will say so: until then, nothing more is to be sent there.
            self.report = structs.replace(self.report, is_draining=True)
        stream.put(event)

    def _forget(self, stream: EngineStream) -> None:
        key = stream.request.model.runner_key
        self.in_flight[key] -= 1
        if not self.in_flight[key]:
            del self.in_flight[key]

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if loop.time() - self._heard_at > SILENCE_S:
                logger.warning("engine has been silent for %.0f s", SILENCE_S)
                self._tasks[0].cancel()
                return
            self._send(Ping())

    def _lose(
        self,
        code: FailureCode = FailureCode.CONNECTION_LOST,
        message: str = "the connection to the inference service was lost",
    ) -> None:
        if self.is_open:
            self.lost_at = time.monotonic()
        self.is_open = False
        self._writer.close()
        self._tasks[1].cancel()
        streams, self._streams = self._streams, {}
        self.in_flight.clear()
        for request_id, stream in streams.items():
            stream.put(Failed(request_id=request_id, code=code, message=message))
        for question in self._questions.values():
            if not question.done():
                question.set_exception(errors.EngineUnavailable())


def _hello(where: Where) -> Hello:
    name = f"web-{os.getpid()}"
    return Hello(protocol=PROTOCOL_VERSION, client=name, secret=secret_for(where))


async def _first_messages(reader: asyncio.StreamReader, decoder: FrameDecoder[Wire]) -> list[Wire]:
    """Return what a node says first; nothing, where it closes without a word."""
    while data := await reader.read(READ_BYTES):
        if messages := decoder.feed(data):
            return messages
    return []


class EngineClient:
    """Keeps one connection to a node and opens it again when it was lost."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None
        self._numbers = itertools.count(1)

    @property
    def connection(self) -> _Connection | None:
        """The connection, if it is open now."""
        return self._connection if self._connection and self._connection.is_open else None

    @property
    def node(self) -> str:
        """What the node calls itself; empty until it has answered once."""
        return self._connection.node if self._connection else ""

    @property
    def last_report(self) -> NodeReport | None:
        """What the node told last, also where the connection was lost since."""
        return self._connection.report if self._connection else None

    @property
    def lost_at(self) -> float | None:
        """When the connection was lost, monotonic; None: it is open, or never was."""
        if self._connection is None or self._connection.is_open:
            return None
        return self._connection.lost_at

    async def connect(self) -> None:
        """Open the connection unless it is. Raises EngineUnavailable."""
        await self._connected()

    async def submit(
        self, request: Submittable, observe: Observer = _ignore, rescue: Rescue | None = None
    ) -> EngineStream:
        """Send a request. Raises BodyTooLarge, EngineUnavailable where no node answers."""
        stream = EngineStream(request, observe, rescue)
        await self.send(stream)
        return stream

    async def send(self, stream: EngineStream) -> None:
        """Send a stream's request to this node. Raises as `submit`."""
        (await self._connected()).submit(stream)

    async def list_loaded(self) -> tuple[LoadedModel, ...]:
        """Return what is in memory. Raises EngineUnavailable."""
        return (await self.get_memory()).models

    async def get_memory(self) -> LoadedModels:
        """Return what is in memory, and what is known of it. Raises EngineUnavailable."""
        connection = await self._connected()
        answer = await connection.ask(ListLoaded(request_id=self._question_id()))
        if not isinstance(answer, LoadedModels):
            raise errors.EngineUnavailable
        return structs.replace(answer, node=connection.node)

    async def get_queue(self) -> QueueState:
        """Return who waits for what. Raises EngineUnavailable."""
        connection = await self._connected()
        answer = await connection.ask(GetQueue(request_id=self._question_id()))
        if not isinstance(answer, QueueState):
            raise errors.EngineUnavailable
        return answer

    async def withdraw(self, request_id: str) -> bool:
        """End somebody's request; return whether it was there. Raises EngineUnavailable."""
        connection = await self._connected()
        question = Withdraw(request_id=self._question_id(), withdrawn_id=request_id)
        answer = await connection.ask(question)
        if not isinstance(answer, Withdrawn):
            raise errors.EngineUnavailable
        return answer.was_there

    async def get_counters(self) -> Counters:
        """Return what has been used since the node began. Raises EngineUnavailable."""
        connection = await self._connected()
        answer = await connection.ask(GetCounters(request_id=self._question_id()))
        if not isinstance(answer, Counters):
            raise errors.EngineUnavailable
        return answer

    async def get_metrics(self) -> NodeMetrics:
        """Return what the node has counted and timed. Raises EngineUnavailable."""
        connection = await self._connected()
        answer = await connection.ask(GetMetrics(request_id=self._question_id()))
        if not isinstance(answer, NodeMetrics):
            raise errors.EngineUnavailable
        return structs.replace(answer, node=connection.node)

    def close(self) -> None:
        """Close the connection; requests that are still open end in SHUTTING_DOWN."""
        if self._connection is not None:
            message = "the service is shutting down, please try again"
            self._connection.close(FailureCode.SHUTTING_DOWN, message)

    async def finish(self) -> None:
        """Close, but wait a moment for the ends of what nobody hears any more."""
        if self._connection is not None:
            await self._connection.wait_for_ends()
        self.close()

    def _question_id(self) -> str:
        return f"question-{next(self._numbers)}"

    async def _connected(self) -> _Connection:
        if self._connection is not None and self._connection.is_open:
            return self._connection
        # Callers share one attempt; it is shielded, so that one who leaves does not end it.
        if self._opening is None:
            self._opening = asyncio.create_task(_Connection.open(self.where))
        opening = self._opening
        try:
            self._connection = await asyncio.shield(opening)
        finally:
            if opening.done() and self._opening is opening:
                self._opening = None
        return self._connection


def new_request_id() -> str:
    """Return an id that no other request has."""
    return uuid.uuid4().hex
