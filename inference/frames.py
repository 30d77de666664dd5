"""Messages ↔ bytes: the one codec of every socket between web, node and runner.

A frame on a stream is a 4-byte big-endian length followed by one msgpack value, a tagged struct
of `inference.messages` or `inference.engine.runner_messages`. Knows none of them by name.
"""

import struct
from typing import Any, Final, Generic, TypeVar

import msgspec

from inference.messages import Wire

MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")
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

    def __init__(self, expected: Any, *, most_bytes: int = MAX_FRAME_BYTES) -> None:
        self._decoder = msgspec.msgpack.Decoder(expected)
        self.most_bytes = most_bytes  # of a frame
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
        if length > self.most_bytes:
            raise ProtocolError(f"frame of {length} bytes is over {self.most_bytes}")
        end: int = start + _LENGTH.size + length
        return end if len(self._pending) >= end else None

    def _decode(self, body: bytearray) -> T:
        try:
            message: T = self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"unexpected frame: {error}") from error
        return message
