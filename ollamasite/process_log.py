"""Turns what several processes print into one readable log: `web       | a line`, or JSON.

Knows nothing of processes: it is given bytes and a name, and writes lines.
"""

import codecs
import contextlib
import json
import logging
import zlib
from typing import Final, TextIO

_NAME_WIDTH: Final = 9
# A line that never ends is written in pieces of this many characters.
_LONGEST_LINE: Final = 8192
_COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92)


class ProcessLog:
    """Writes prefixed lines to one output; the prefix is coloured when asked for."""

    def __init__(self, output: TextIO, *, is_coloured: bool = False, is_json: bool = False) -> None:
        self._output = output
        self._is_coloured = is_coloured
        self._is_json = is_json

    def write(self, name: str, line: str) -> None:
        """Write one line under a name. An output that is gone is no reason to stop."""
        whole = _as_json(name, line) if self._is_json else f"{self._prefix(name)}{line}"
        try:
            self._output.write(f"{whole}\n")
            self._output.flush()
        except OSError:
            return

    def _prefix(self, name: str) -> str:
        prefix = f"{name:<{_NAME_WIDTH}} | "
        if not self._is_coloured:
            return prefix
        colour = _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]
        return f"\x1b[{colour}m{prefix}\x1b[0m"


def _as_json(name: str, line: str) -> str:
    """Return a line as it is where a process has made JSON of it, else as JSON."""
    with contextlib.suppress(ValueError):
        if line.startswith("{") and isinstance(json.loads(line), dict):
            return line
    return json.dumps({"event": line, "level": "info", "process": name})


class LineSplitter:
    """Cuts one process's bytes into lines of the log."""

    def __init__(self, log: ProcessLog, name: str) -> None:
        self._log = log
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        """Write the lines that `data` completes and keep the rest."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._write(line)
        while len(self._rest) > _LONGEST_LINE:
            self._log.write(self._name, self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]

    def close(self) -> None:
        """Write what was begun and never ended with a newline."""
        rest = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        if rest:
            self._write(rest)

    def _write(self, line: str) -> None:
        text = line.rstrip("\r")
        for start in range(0, max(len(text), 1), _LONGEST_LINE):
            self._log.write(self._name, text[start : start + _LONGEST_LINE])


class ProcessLogHandler(logging.Handler):
    """Gives a process's own log records a place among those of its children."""

    def __init__(self, log: ProcessLog, name: str) -> None:
        super().__init__()
        self._log = log
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        """Write every line of a record, a traceback's too, under the same name."""
        for line in self.format(record).splitlines():
            self._log.write(self._name, line)
