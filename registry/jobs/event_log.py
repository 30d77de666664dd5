"""What a running job has reported, as its row keeps it: events, bytes, speed.

Thread-safe; reporting is cheap. Knows no row and no kind of job.

Whoever follows a job compares the log entry by entry, so entries are changed and added, never
moved or removed. Of each file the newest event stands where its first one came; of events without
a file, those with the same status that follow each other are one. A job that is taken up again
after its worker was lost tells again what it has told before: that is not added a second time.
"""

import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import msgspec

from models_app.jobs import Snapshot
from registry.progress import Progress

MOST_EVENTS: Final = 2000
_WINDOW_S: Final = 5.0
_SAMPLE_S: Final = 0.2


class EventLog:
    """The events of one job; `earlier` are those of the attempts before this one."""

    def __init__(
        self,
        earlier: tuple[dict[str, Any], ...] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = Lock()
        self._events = [msgspec.convert(event, Progress) for event in earlier]
        # What is before this index has been told again, or may still be.
        self._told = 0
        self._retold = len(self._events)
        self._places: dict[tuple[str, str], int] = {}
        self._bytes: dict[str, Progress] = {}
        self._speed = _Speed(clock)
        for index, event in enumerate(self._events):
            if event.digest:
                self._places[event.status, event.digest] = index

    def add(self, event: Progress) -> bool:
        """Take an event; return whether it is more than newer figures."""
        with self._lock:
            if event.digest:
                self._count(event)
            return self._place(event)

    def snapshot(self) -> Snapshot:
        """Return everything as the row keeps it."""
        with self._lock:
            return Snapshot(
                events=msgspec.json.encode(self._events).decode(),
                total_bytes=sum(event.total for event in self._bytes.values()),
                completed_bytes=sum(event.completed for event in self._bytes.values()),
                bytes_per_s=self._speed.bytes_per_s(),
            )

    def _place(self, event: Progress) -> bool:
        index = self._index_of(event)
        if index is not None:
            self._events[index] = event
            return False
        if len(self._events) >= MOST_EVENTS:
            self._events[-1] = event
            return False
        self._events.append(event)
        if event.digest:
            self._places[event.status, event.digest] = len(self._events) - 1
        return True

    def _index_of(self, event: Progress) -> int | None:
        if event.digest:
            return self._places.get((event.status, event.digest))
        for index in range(self._told, self._retold):
            if self._events[index].status == event.status:
                self._told = index
                return index
        last = len(self._events) - 1
        return last if last >= 0 and self._events[last].status == event.status else None

    def _count(self, event: Progress) -> None:
        before = self._bytes.get(event.digest)
        if before is not None:
            # The first event of a file tells what was there already: nobody has moved it now.
            self._speed.add(max(event.completed - before.completed, 0))
        self._bytes[event.digest] = event


class _Speed:
    """Bytes a second over the last few seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moved = 0
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])

    def add(self, moved_bytes: int) -> None:
        self._moved += moved_bytes
        self._sample()

    def bytes_per_s(self) -> int:
        self._sample()
        now_s = self._clock()
        start_s, start = self._samples[0]
        if now_s - start_s < _SAMPLE_S:
            return 0
        return int((self._moved - start) / (now_s - start_s))

    def _sample(self) -> None:
        now_s = self._clock()
        if now_s - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now_s, self._moved))
        while len(self._samples) > 1 and now_s - self._samples[1][0] >= _WINDOW_S:
            self._samples.popleft()
