"""The journal of requests: what a process writes down before the ledger's rows are written.

    <folder>/
    ├── web-<pid>-<random>.jsonl       a JSON object a line; held with flock by its process
    └── web-<pid>-<random>.jsonl.new   being written in its place; left behind only by a crash

A request that is let in has one `Begin` and in the end one `End`; while it runs, `Progress` says
now and then what it has used, and `Placed` which other machine has it. Where it had a bill,
`Settled` says that the limits know the end.
Appending is one write to a file of this machine (about 10 µs), so that a process may be killed at
any time and another can take up what it had begun: whoever gets the lock. A torn line is skipped.
After a power cut the last seconds may be missing, as with the database itself, and what was
still open then.

No text of a prompt or an answer is written. Knows no database, no limit and no engine.
"""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

logger = logging.getLogger(__name__)

PATTERN: Final = "web-*.jsonl"
_READ_BYTES: Final = 256 * 1024
# A journal with requests that still run is written anew when it is as long as this.
_LONG_BYTES: Final = 1024 * 1024


class Figures(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request has used: tokens and microseconds."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0  # of those that came in
    queue_us: int = 0
    load_us: int = 0
    prefill_us: int = 0
    decode_us: int = 0
    compute_us: int = 0


def sum_of(figures: Collection[Figures]) -> Figures:
    """Return what several messages of one call have used together; they waited side by side."""
    return Figures(
        tokens_in=sum(one.tokens_in for one in figures),
        tokens_out=sum(one.tokens_out for one in figures),
        tokens_cached=sum(one.tokens_cached for one in figures),
        queue_us=max((one.queue_us for one in figures), default=0),
        load_us=max((one.load_us for one in figures), default=0),
        prefill_us=sum(one.prefill_us for one in figures),
        decode_us=sum(one.decode_us for one in figures),
        compute_us=sum(one.compute_us for one in figures),
    )


class Begin(msgspec.Struct, frozen=True, omit_defaults=True, tag="begin", kw_only=True):
    """A request was let in. `at_us`: microseconds since 1970; ids of 0: none.

    `messages` are the ids under which the engine knows it; `bill` is what the limits need to
    settle what they hold for it, in their own words.
    """

    request_id: str
    at_us: int
    messages: tuple[str, ...] = ()
    user_id: int = 0
    user_name: str = ""
    team_id: int = 0
    team_name: str = ""
    key_id: int = 0
    key_name: str = ""
    credential: str = ""
    address: str | None = None
    model_name: str = ""
    model_digest: str = ""
    dialect: str = ""
    kind: str = ""
    priority: str = ""
    parameters: dict[str, bool | int | float] = {}
    seed: int | None = None
    bill: dict[str, Any] | None = None


class Placed(msgspec.Struct, frozen=True, tag="placed"):
    """A message of a request has gone to a node; of several the last one counts.

    Those that are not told of are on this machine's.
    """

    request_id: str
    message_id: str
    node: str


class Progress(msgspec.Struct, frozen=True, omit_defaults=True, tag="progress"):
    """What a request has used so far."""

    request_id: str
    figures: Figures


class End(msgspec.Struct, frozen=True, omit_defaults=True, tag="end", kw_only=True):
    """A request has ended. `outcome`: one of `models_app.models.Outcome`."""

    request_id: str
    at_us: int
    outcome: str
    error_code: str = ""
    figures: Figures = Figures()
    node: str = ""


class Settled(msgspec.Struct, frozen=True, tag="settled"):
    """Nobody has to settle a request's bill any more."""

    request_id: str


Record = Begin | Placed | Progress | End | Settled
_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Record]] = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """Return a record's line. It begins with the newline, so that a torn one before ends there."""
    return b"\n" + _encoder.encode(record)


class LineReader:
    """Bytes of a journal → records, in order; what is no record is skipped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, *, is_last: bool = False) -> list[Record]:
        """Return the records that are complete now; `is_last`: nothing follows."""
        lines = (self._rest + data).split(b"\n")
        self._rest = b"" if is_last else lines.pop()
        if self._rest and (record := _decoded(self._rest)) is not None:
            self._rest = b""  # a record that decodes is whole: its newline comes with the next
            return [*_records(lines), record]
        return list(_records(lines))


def _records(lines: Iterable[bytes]) -> Iterator[Record]:
    for line in lines:
        if not line:
            continue
        record = _decoded(line)
        if record is None:
            logger.warning("a line of a ledger journal is torn and was skipped")
        else:
            yield record


def _decoded(line: bytes) -> Record | None:
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class OpenRequests:
    """Requests that have begun and not ended, as far as the records tell that were fed in.

    And those that have ended and whose bills are not settled: `unsettled`.
    """

    def __init__(self) -> None:
        self._begun: dict[str, Begin] = {}
        self._used: dict[str, Figures] = {}
        self._nodes: dict[str, dict[str, str]] = {}  # of requests' messages
        self.unsettled: dict[str, tuple[Begin, End]] = {}

    def feed(self, records: Iterable[Record]) -> list[tuple[Begin, End]]:
        """Take records in and return the requests that have ended with them."""
        ended: list[tuple[Begin, End]] = []
        for record in records:
            match record:
                case Begin(request_id=request_id):
                    self._begun[request_id] = record
                case Placed():
                    self._place(record)
                case Progress(request_id=request_id, figures=figures):
                    if request_id in self._begun:  # it may be told a moment after its end
                        self._used[request_id] = figures
                case End():
                    ended += self._end(record)
                case Settled(request_id=request_id):
                    self._settle(request_id)
        return ended

    def _place(self, record: Placed) -> None:
        if record.request_id in self._begun:
            nodes = self._nodes.setdefault(record.request_id, {})
            nodes[record.message_id] = record.node

    def _end(self, record: End) -> list[tuple[Begin, End]]:
        self._used.pop(record.request_id, None)
        self._nodes.pop(record.request_id, None)
        begin = self._begun.pop(record.request_id, None)
        if begin is None:
            return []
        self._keep_unsettled(begin, record)
        return [(begin, record)]

    def _keep_unsettled(self, begin: Begin, end: End) -> None:
        if begin.bill is not None:
            self.unsettled[begin.request_id] = begin, end

    def _settle(self, request_id: str) -> None:
        self.unsettled.pop(request_id, None)
        if begin := self._begun.get(request_id):  # its end is still in memory
            self._begun[request_id] = structs.replace(begin, bill=None)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._begun)

    def __iter__(self) -> Iterator[tuple[Begin, Figures]]:
        """Yield them and what they had used when it was last written down."""
        for request_id, begin in self._begun.items():
            yield begin, self._used.get(request_id, Figures())

    def nodes_of(self, request_id: str) -> Mapping[str, str]:
        """Return which of a request's messages have gone to which node of another machine."""
        return self._nodes.get(request_id, {})

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing that a journal would have to hold."""
        return not self._begun and not self.unsettled

    def records(self) -> Iterator[Record]:
        """Yield the records of a journal that holds nothing else."""
        for pair in self.unsettled.values():
            yield from pair
        for begin, figures in self:
            yield begin
            for message_id, node in self.nodes_of(begin.request_id).items():
                yield Placed(begin.request_id, message_id, node)
            if figures != Figures():
                yield Progress(begin.request_id, figures)


class Journal:
    """The journal of this process. One thread may append while another reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"web-{os.getpid()}-{secrets.token_hex(6)}.jsonl"
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._read_to = 0
        self._reader = LineReader()

    def append(self, records: Sequence[Record]) -> None:
        """Write records down. Raises OSError; then they may be there or not."""
        with self._lock:
            if self._descriptor is None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor = _open_locked(self._path)
            _write(self._descriptor, records)

    def read(self) -> list[Record]:
        """Return the next records that have not been read yet; none: there are none."""
        with self._lock:
            if self._descriptor is None:
                return []
            data = os.pread(self._descriptor, _READ_BYTES, self._read_to)
            self._read_to += len(data)
        return self._reader.feed(data) if data else []

    def shorten(self, still_open: OpenRequests) -> None:
        """Leave only what is still open, if all has been read and it is worth it. Raises OSError.

        What was read must have been dealt with.
        """
        with self._lock:
            if self._descriptor is None:
                return
            size = os.fstat(self._descriptor).st_size
            if size != self._read_to or not size:
                return
            if still_open.is_idle:
                os.ftruncate(self._descriptor, 0)
            elif size > _LONG_BYTES:
                self._replace(list(still_open.records()))
            else:
                return
            self._read_to = 0 if still_open.is_idle else os.fstat(self._descriptor).st_size
            self._reader = LineReader()

    def close(self) -> None:
        """Let go of the file; one in which nothing is open is removed."""
        with self._lock:
            if self._descriptor is None:
                return
            with contextlib.suppress(OSError):
                if not os.fstat(self._descriptor).st_size:
                    self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _replace(self, records: list[Record]) -> None:
        # In one step and under the lock: at no time is there a journal without what is open, or
        # one that somebody else could think is left behind.
        aside = self._path.with_name(f"{self._path.name}.new")
        descriptor = _open_locked(aside)
        try:
            _write(descriptor, records)
            aside.replace(self._path)
        except OSError:
            os.close(descriptor)
            aside.unlink(missing_ok=True)
            raise
        old, self._descriptor = self._descriptor, descriptor
        if old is not None:
            os.close(old)


class LeftJournal:
    """A journal whose process is gone, held by whoever takes it up. Close it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "LeftJournal | None":
        """Return the journal at a path, or None where somebody has it or has dealt with it."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return cls(path, descriptor)
        except BlockingIOError:
            pass  # its process lives, or another deals with it
        os.close(descriptor)
        return None

    def read(self) -> Iterator[list[Record]]:
        """Yield its records in portions. Raises OSError."""
        reader = LineReader()
        at = 0
        while data := os.pread(self._descriptor, _READ_BYTES, at):
            at += len(data)
            yield reader.feed(data)
        yield reader.feed(b"", is_last=True)

    def written_at_us(self) -> int:
        """Return when it was written to last, in microseconds since 1970."""
        return os.fstat(self._descriptor).st_mtime_ns // 1000

    def remove(self) -> None:
        """Remove it: all that it tells is in the ledger."""
        self.path.with_name(f"{self.path.name}.new").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it, also for a child process that was forked meanwhile and has it open."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


def _open_locked(path: Path) -> int:
    """Return the file at a path, made and held by this process. Raises OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        # Before it was held somebody has taken it for one that is left behind, and removed it.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _write(descriptor: int, records: Iterable[Record]) -> None:
    data = b"".join(map(encode, records))
    written = os.write(descriptor, data)
    if written < len(data):
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes could be written")
