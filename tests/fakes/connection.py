"""A web process as a node sees it, frame by frame. Knows no client library of ours."""

import asyncio
from pathlib import Path
from types import TracebackType

from inference.frames import FrameDecoder, encode
from inference.messages import (
    PROTOCOL_VERSION,
    Event,
    Events,
    Failed,
    Finished,
    FromNode,
    Hello,
    NodeReport,
    Ping,
    Pong,
    Welcome,
    Wire,
)


class WireConnection:
    """One connection to a node; every wait ends after `timeout_s`."""

    def __init__(self, socket_path: Path, *, timeout_s: float = 60.0) -> None:
        self._socket_path = socket_path
        self._timeout_s = timeout_s
        self._decoder: FrameDecoder[Wire] = FrameDecoder(FromNode)
        self._arrived: list[Wire] = []
        self.events: list[Event] = []  # every event so far, of all requests
        self.reports: list[NodeReport] = []

    async def __aenter__(self) -> "WireConnection":
        self._reader, self._writer = await asyncio.open_unix_connection(self._socket_path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave."""
        self._writer.close()

    def send(self, message: Wire) -> None:
        """Send a frame."""
        self._writer.write(encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Send what is no frame."""
        self._writer.write(data)

    async def greet(self, protocol: int = PROTOCOL_VERSION) -> Welcome:
        """Say hello and return the answer."""
        self.send(Hello(protocol=protocol, client="test"))
        answer = await self.receive()
        assert isinstance(answer, Welcome)
        return answer

    async def receive(self) -> Wire | None:
        """Return the next frame but Events and reports, or None where the node hung up."""
        async with asyncio.timeout(self._timeout_s):
            while not self._arrived:
                if not await self._read():
                    return None
        return self._arrived.pop(0)

    async def end_of(self, request_id: str) -> Finished | Failed:
        """Wait for the end of a request."""
        async with asyncio.timeout(self._timeout_s):
            while not (ends := self.ends_of(request_id)):
                assert await self._read(), "the node hung up"
        return ends[0]

    async def wait_for_tokens_of(self, request_id: str) -> None:
        """Wait until a request has an event."""
        async with asyncio.timeout(self._timeout_s):
            while not any(event.request_id == request_id for event in self.events):
                assert await self._read(), "the node hung up"

    async def settle(self) -> None:
        """Wait until the node has handled all that was sent, and a little more."""
        await asyncio.sleep(0.1)
        self.send(Ping())
        assert await self.receive() == Pong()

    def ends_of(self, request_id: str) -> list[Finished | Failed]:
        """Return the ends that have come for a request: there must never be two."""
        return [
            event
            for event in self.events
            if event.request_id == request_id and isinstance(event, Finished | Failed)
        ]

    async def _read(self) -> bool:
        try:
            data = await self._reader.read(65536)
        except ConnectionError:
            return False
        for message in self._decoder.feed(data):
            if isinstance(message, Events):
                self.events.extend(message.events)
            elif isinstance(message, NodeReport):
                self.reports.append(message)
            else:
                self._arrived.append(message)
        return bool(data)
