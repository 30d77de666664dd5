"""The log of a running job: order kept, figures replaced, speed of what was moved."""

import json
from typing import Any

from registry.jobs.event_log import MOST_EVENTS, EventLog
from registry.progress import Progress

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def events_of(log: EventLog) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(log.snapshot().events)
    return events


def statuses_of(log: EventLog) -> list[str]:
    return [event["status"] for event in events_of(log)]


def test_every_status_is_kept_in_order() -> None:
    log = EventLog()
    for status in ("one", "two", "one"):
        assert log.add(Progress(status=status))

    assert statuses_of(log) == ["one", "two", "one"]


def test_same_status_in_a_row_is_one_event() -> None:
    log = EventLog()
    log.add(Progress(status="one"))

    assert not log.add(Progress(status="one", completed=5, total=9))
    assert events_of(log) == [{"status": "one", "total": 9, "completed": 5}]


def test_newer_figures_of_a_file_stand_where_its_first_were() -> None:
    log = EventLog()
    for digest, completed in ((A, 1), (B, 2), (A, 3)):
        log.add(Progress(status="pulling", digest=digest, total=10, completed=completed))

    assert [(e["digest"], e["completed"]) for e in events_of(log)] == [(A, 3), (B, 2)]


def test_bytes_are_those_of_all_files() -> None:
    log = EventLog()
    log.add(Progress(status="pulling", digest=A, total=10, completed=4))
    log.add(Progress(status="pulling", digest=B, total=20, completed=6))
    log.add(Progress(status="pulling", digest=A, total=10, completed=10))

    snapshot = log.snapshot()
    assert (snapshot.total_bytes, snapshot.completed_bytes) == (30, 16)


def test_speed_leaves_out_what_was_there_before() -> None:
    clock = Clock()
    log = EventLog(clock=clock)
    log.add(Progress(status="pulling", digest=A, total=9000, completed=5000))
    clock.now_s += 1
    log.add(Progress(status="pulling", digest=A, total=9000, completed=5300))

    assert log.snapshot().bytes_per_s == 300


def test_speed_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    log = EventLog(clock=clock)
    for second in range(30):
        log.add(Progress(status="pulling", digest=A, total=10**6, completed=min(second, 10) * 1000))
        clock.now_s += 1

    assert log.snapshot().bytes_per_s == 0


def test_log_has_an_end_and_keeps_the_newest() -> None:
    log = EventLog()
    for number in range(MOST_EVENTS + 10):
        log.add(Progress(status=f"step {number}"))

    assert len(events_of(log)) == MOST_EVENTS
    assert statuses_of(log)[-1] == f"step {MOST_EVENTS + 9}"


def test_second_attempt_adds_only_what_is_new() -> None:
    first = EventLog()
    first.add(Progress(status="pulling manifest"))
    first.add(Progress(status="pulling", digest=A, total=10, completed=4))
    second = EventLog(tuple(events_of(first)))
    second.add(Progress(status="pulling manifest"))
    second.add(Progress(status="pulling", digest=A, total=10, completed=7))
    second.add(Progress(status="success"))

    assert statuses_of(second) == ["pulling manifest", "pulling", "success"]
    assert events_of(second)[1]["completed"] == 7
