"""From what this process serves to the ledger: journal at once, rows of the database soon after.

    begin(record, figures)     # LedgerUnavailable: then the request must not be let in
    …                          # figures() is asked now and then, from another thread
    end(record)                # never fails; then settled(request_id), if it had a bill

`keep_writing` starts the thread that writes the rows, in a web process; `finish` ends it. Until
rows are in the database they are in the journal, so a database that does not answer holds up
nobody, and a process that is killed loses nothing (`models_app.ledger_recovery`). Knows no engine
and no HTTP.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections

from models_app import ledger
from models_app.errors import LedgerUnavailable
from models_app.ledger_chores import recover_in_time
from models_app.ledger_journal import (
    Begin,
    End,
    Figures,
    Journal,
    OpenRequests,
    Placed,
    Progress,
    Settled,
)
from models_app.ledger_recovery import FindEnds
from ollamasite import outages

logger = logging.getLogger(__name__)

EVERY_S: Final = 0.3
_PROGRESS_EVERY_S: Final = 1.0


class LedgerWriter:
    """One process's way to the ledger. `begin` and `end` are called on one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = Journal(folder)
        self._running: dict[str, Callable[[], Figures]] = {}
        # What the journal did not take of an end: the disk is full.
        self._unjournaled: deque[End | Settled] = deque()
        self._open = OpenRequests()
        self._due: list[ledger.Ended] = []
        self._told: dict[str, Figures] = {}  # in Progress records
        self._writing = threading.Lock()
        self.written_at_s = time.monotonic()

    def begin(self, record: Begin, figures: Callable[[], Figures]) -> None:
        """Write down that a request is let in. Raises LedgerUnavailable."""
        try:
            self._journal.append([record])
        except OSError as error:
            logger.exception("the ledger's journal cannot be written; requests are refused")
            raise LedgerUnavailable from error
        self._running[record.request_id] = figures

    def placed(self, record: Placed) -> None:
        """Write down where a message has gone; a full disk costs who asks after it, no request."""
        with suppress(OSError):
            self._journal.append([record])

    def end(self, record: End) -> None:
        """Write down that a request has ended."""
        self._running.pop(record.request_id, None)
        self._append_end(record)

    def settled(self, request_id: str) -> None:
        """Write down that a request's bill is settled."""
        self._append_end(Settled(request_id))

    def write(self) -> int:
        """Write what has ended to the database; return how many rows are new.

        Raises django.db.Error; what was not written is tried again the next time. Blocks.
        """
        with self._writing:
            in_memory = len(self._unjournaled)
            written = self._write_due()
            while records := self._journal.read():
                self._due = self._open.feed(records)
                written += self._write_due()
            # Only now is every one of them known to have begun.
            kept = [self._unjournaled.popleft() for _ in range(in_memory)]
            self._due = self._open.feed(kept)
            written += self._write_due()
            self._shorten()
            self.written_at_s = time.monotonic()
            return written

    def tell_progress(self) -> None:
        """Write down what requests that run have used by now, where that has changed."""
        figures = {request_id: ask() for request_id, ask in list(self._running.items())}
        news = [
            Progress(request_id, used)
            for request_id, used in figures.items()
            if used != self._told.get(request_id, Figures())
        ]
        if news:
            try:
                self._journal.append(news)
            except OSError:  # the next Begin tells of it, and these are told the next time
                return
        self._told = figures

    def close(self) -> None:
        """Let go of the journal; what is still in it is for the recovery."""
        self._journal.close()

    def _append_end(self, record: End | Settled) -> None:
        try:
            self._journal.append([record])
        except OSError:
            logger.exception("the end of request %s is kept in memory", record.request_id)
            self._unjournaled.append(record)

    def _write_due(self) -> int:
        written = ledger.write(self._due)
        self._due = []
        return len(written)

    def _shorten(self) -> None:
        try:
            self._journal.shorten(self._open)
        except OSError as error:
            logger.warning("the ledger's journal could not be shortened: %s", error)


class _Process:
    """What there is once in a process."""

    def __init__(self) -> None:
        self.writer: LedgerWriter | None = None
        self.thread: threading.Thread | None = None
        self.is_ending = threading.Event()


_process: Final = _Process()


def begin(record: Begin, figures: Callable[[], Figures]) -> None:
    """Write down that a request is let in. Raises LedgerUnavailable.

    `figures` says what it has used so far; it is called from another thread.
    """
    _writer().begin(record, figures)


def placed(record: Placed) -> None:
    """Write down to which node a message of a request has gone. Never fails."""
    _writer().placed(record)


def end(record: End) -> None:
    """Write down that a request has ended. Never fails."""
    _writer().end(record)


def settled(request_id: str) -> None:
    """Write down that a request's bill is settled: nobody else has to. Never fails."""
    _writer().settled(request_id)


def write_pending() -> int:
    """Write all that has ended to the database now; return how many rows are new.

    Raises django.db.Error. Blocks.
    """
    return _writer().write()


def lag_s() -> float | None:
    """Return since when nothing has been written that may be due; None: nobody writes here."""
    writer = _process.writer
    if writer is None or _process.thread is None:
        return None
    return time.monotonic() - writer.written_at_s


def keep_writing(find_ends: FindEnds) -> None:
    """Write rows, and what dead processes have left, as long as the process lives or to `finish`.

    Starts a thread; a second call changes nothing.
    """
    if _process.thread is None:
        _process.is_ending.clear()
        arguments = (_writer(), find_ends)
        thread = threading.Thread(
            target=_write_always, args=arguments, name="ledger-writer", daemon=True
        )
        _process.thread = thread
        thread.start()


def finish() -> None:
    """Have the thread write what is left, and let go of the journal. Blocks."""
    _process.is_ending.set()
    if _process.thread is not None:
        _process.thread.join()
        _process.thread = None
    if _process.writer is not None:
        _process.writer.close()
        _process.writer = None


def _writer() -> LedgerWriter:
    folder: Path = settings.LEDGER_DIR
    if _process.writer is None or _process.writer.folder != folder:
        if _process.writer is not None:
            _process.writer.close()
        _process.writer = LedgerWriter(folder)
    return _process.writer


def _write_always(writer: LedgerWriter, find_ends: FindEnds) -> None:
    progress_at = 0.0
    failures = 0
    while True:
        is_last = _process.is_ending.wait(EVERY_S)
        try:
            writer.write()
            if not is_last:
                recover_in_time(find_ends)
            failures = 0
            outages.ledger_rows.ends()
        except (DatabaseError, InterfaceError) as error:
            outages.ledger_rows.begins(error)
        except Exception:  # whatever it was, later it may work: the journal waits
            failures += 1
            if failures.bit_count() == 1:  # less and less often
                logger.warning("the ledger could not be written (%d)", failures, exc_info=True)
        if time.monotonic() >= progress_at:
            writer.tell_progress()
            progress_at = time.monotonic() + _PROGRESS_EVERY_S
        if is_last:
            connections.close_all()
            return
