"""Content-Encoding of an answer → its bytes, a bounded piece at a time.

gzip and deflate (RFC 9110, 8.4.1), which some servers send unasked. A small answer that would
grow without end is the reader's to stop: no piece is larger than `PIECE_BYTES`. Knows no limits.
"""

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from ollamasite.errors import OutboundFailed

PIECE_BYTES: Final = 64 * 1024
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


class Decoder(Protocol):
    """Turns what comes over the wire into what was meant."""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Return the pieces that a chunk stands for. Raises OutboundFailed."""

    def finish(self) -> None:
        """Check that nothing is missing. Raises OutboundFailed."""


class _Identity:
    def decode(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def finish(self) -> None:
        pass


class _Inflater:
    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        while not self._inflater.eof:
            try:
                piece = self._inflater.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                raise OutboundFailed("the answer's compression is broken") from error
            if piece:
                yield piece
            chunk = self._inflater.unconsumed_tail
            if not chunk and len(piece) < PIECE_BYTES:
                return

    def finish(self) -> None:
        if not self._inflater.eof:
            raise OutboundFailed("the answer is cut short")


def decoder_for(content_encoding: str) -> Decoder:
    """Return the decoder for a Content-Encoding header. Raises OutboundFailed if there is none."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip" | "deflate":
            return _Inflater()
    raise OutboundFailed("the answer is compressed in a way that was not asked for")
