"""Bytes → the data of server-sent events (HTML Living Standard, 9.2.6), as far as engines use it.

Only `data` counts; comments and other fields are passed over. Bounded. Sans-IO.
"""

from typing import Final

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
_BOM: Final = "\N{BYTE ORDER MARK}".encode()


class EventTooLarge(Exception):
    """An event, or a line without an end, is larger than MAX_EVENT_BYTES."""


class EventStream:
    """The events of one answer. `count`: those that were complete so far."""

    def __init__(self) -> None:
        self.count = 0
        self._is_first = True  # line: it may begin with a byte order mark
        self._line = bytearray()  # the beginning of a line whose end has not come
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the data of every event that is complete.

        Raises EventTooLarge.
        """
        *lines, rest = chunk.split(b"\n")
        found: list[bytes] = []
        for line in lines:
            self._line += line
            self._check()
            self._take(bytes(self._line).removesuffix(b"\r"), found)
            self._line.clear()
        self._line += rest
        self._check()
        return found

    def close(self) -> list[bytes]:
        """Return what the end of the answer completes: some leave the last blank line out."""
        found: list[bytes] = []
        self._take(bytes(self._line).removesuffix(b"\r"), found)
        self._take(b"", found)
        return found

    def _take(self, line: bytes, found: list[bytes]) -> None:
        if self._is_first:
            line, self._is_first = line.removeprefix(_BOM), False
        if line.startswith(b"data:"):
            data = line[5:].removeprefix(b" ")
            self._data.append(data)
            self._data_bytes += len(data)
        elif not line and self._data:
            self.count += 1
            found.append(b"\n".join(self._data))
            self._data = []
            self._data_bytes = 0

    def _check(self) -> None:
        if len(self._line) + self._data_bytes > MAX_EVENT_BYTES:
            raise EventTooLarge
