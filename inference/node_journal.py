"""What the node writes down of every request that has ended, for whoever has lost sight of it.

    <folder>/ends.jsonl      a JSON object a line, the newest last
    <folder>/ends.1.jsonl    the ones before

A web process that is killed cannot write down what its requests have used; the node can. The
ledger's recovery looks them up here by their ids. Bounded: the older of two files of 8 MiB goes,
tens of thousands of requests later. No text of a request is in it. Knows no Django and no ledger.
"""

import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from inference.messages import Usage

logger = logging.getLogger(__name__)

_NAME: Final = "ends.jsonl"
_BEFORE: Final = "ends.1.jsonl"
_MOST_BYTES: Final = 8 * 1024 * 1024


class NodeEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request has ended; `code` is a FailureCode where it has failed."""

    request_id: str
    usage: Usage
    code: str = ""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(NodeEnd)


class NodeJournal:
    """The node's side. For one thread; a disk that is full only costs what cannot be written."""

    def __init__(self, folder: Path, *, most_bytes: int = _MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._size = 0
        self._descriptor: int | None = None
        self._has_failed = False

    def append(self, end: NodeEnd) -> None:
        """Write an end down."""
        # The newline comes first, so that a torn line ends where the next one begins.
        line = b"\n" + _encoder.encode(end)
        try:
            if self._size + len(line) > self._most_bytes:
                self._rotate()
            self._size += os.write(self._opened(), line)
        except OSError as error:
            if not self._has_failed:
                logger.warning("ends of requests cannot be written down: %s", error)
            self._has_failed = True
        else:
            self._has_failed = False

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._descriptor = os.open(self._folder / _NAME, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _rotate(self) -> None:
        self.close()
        self._size = 0
        with contextlib.suppress(FileNotFoundError):
            (self._folder / _NAME).replace(self._folder / _BEFORE)


def find_usages(folder: Path, request_ids: Collection[str]) -> dict[str, Usage]:
    """Return what requests have used that the node has written down. Blocks: reads both files."""
    wanted = set(request_ids)
    if not wanted:
        return {}
    # The newer one may become the older one while they are read.
    return {
        end.request_id: end.usage
        for name in (_NAME, _BEFORE, _NAME)
        for end in _ends_in(folder / name)
        if end.request_id in wanted
    }


def _ends_in(path: Path) -> Iterator[NodeEnd]:
    try:
        with path.open("rb") as lines:
            for line in lines:
                with contextlib.suppress(msgspec.MsgspecError):
                    yield _decoder.decode(line)
    except FileNotFoundError:
        return
