"""The ledger's rows and sums: exactly once, whoever writes them and whatever is killed."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone
from msgspec import structs

from models_app import ledger, ledger_recovery
from models_app.errors import LedgerUnavailable
from models_app.ledger_journal import (
    PATTERN,
    Begin,
    End,
    Figures,
    Journal,
    LeftJournal,
    OpenRequests,
    Placed,
    Progress,
    Record,
)
from models_app.ledger_recovery import Told, recover
from models_app.ledger_writer import LedgerWriter
from models_app.models import LedgerEntry, LedgerHour, Outcome, User

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
USED = Figures(tokens_in=10, tokens_out=3, tokens_cached=4, compute_us=1000, queue_us=5)


def begin(request_id: str, **fields: Any) -> Begin:
    known: dict[str, Any] = {
        "at_us": NOON_US,
        "messages": (f"m-{request_id}",),
        "user_id": 1,
        "user_name": "alice",
        "credential": "key",
        "model_name": "tiny:latest",
        "model_digest": "d" * 64,
        "dialect": "native",
        "kind": "chat",
        "priority": "api",
        "parameters": {"num_ctx": 512, "temperature": 0.5},
        "seed": 7,
    }
    return Begin(request_id=request_id, **(known | fields))


def end(request_id: str, outcome: Outcome = Outcome.DONE, figures: Figures = USED) -> End:
    return End(
        request_id=request_id,
        at_us=NOON_US + 2_000_000,
        outcome=outcome.value,
        figures=figures,
        node="local",
    )


def ended(request_id: str, outcome: Outcome = Outcome.DONE, **fields: Any) -> ledger.Ended:
    return begin(request_id, **fields), end(request_id, outcome)


def nobody_knows(asked: Any) -> Told:
    del asked
    return Told({})


def left_behind(folder: Path, *records: Begin | Placed | End) -> None:
    """A journal whose process is gone."""
    journal = Journal(folder)
    journal.append(records)
    journal.close()


def test_row_has_what_the_journal_said(alice: User) -> None:
    ledger.write([ended("a", user_id=alice.pk)])

    row = LedgerEntry.objects.get()
    assert (row.request_id, row.user_name, row.model_name, row.node) == (
        "a",
        "alice",
        "tiny:latest",
        "local",
    )
    assert (row.began_at, row.ended_at - row.began_at) == (NOON, timedelta(seconds=2))
    assert (row.tokens_in, row.tokens_out, row.tokens_cached, row.compute_us) == (10, 3, 4, 1000)
    assert (row.parameters, row.seed) == ({"num_ctx": 512, "temperature": 0.5}, 7)


def test_row_of_a_user_who_is_gone_meanwhile_has_no_name() -> None:
    ledger.write([ended("a", user_id=77, key_name="alice's laptop", address="192.0.2.7")])

    for rows in (LedgerEntry, LedgerHour):
        row = rows.objects.get()
        assert (row.user_id, row.user_name, row.key_name) == (77, "deleted-77", "")
    assert LedgerEntry.objects.get().address is None


def test_request_that_is_written_twice_counts_once() -> None:
    assert ledger.write([ended("a"), ended("b")]) == ["a", "b"]
    assert ledger.write([ended("b"), ended("c"), ended("c")]) == ["c"]

    assert LedgerEntry.objects.count() == 3
    hour = LedgerHour.objects.get()
    assert (hour.requests, hour.tokens_in, hour.tokens_out) == (3, 30, 9)


def test_sums_are_kept_apart_by_hour_and_by_all_that_counts() -> None:
    ledger.write(
        [
            ended("a"),
            ended("b", at_us=NOON_US + 3_600_000_000),
            ended("c", user_id=2),
            ended("d", team_id=3),
            ended("e", key_id=4),
            ended("f", model_name="other:latest"),
            ended("g", dialect="openai"),
            ended("h"),
        ]
    )

    assert sorted(LedgerHour.objects.values_list("requests", flat=True)) == [1, 1, 1, 1, 1, 1, 2]
    assert LedgerHour.objects.get(requests=2).hour == NOON.replace(minute=0)


def test_failed_and_lost_requests_are_counted_as_such() -> None:
    ledger.write(
        [ended(outcome.value, outcome) for outcome in Outcome],
    )

    hour = LedgerHour.objects.get()
    assert (hour.requests, hour.failed) == (4, 2)


def test_figure_that_no_column_holds_is_cut() -> None:
    ledger.write([(begin("a"), end("a", figures=Figures(tokens_in=2**63, queue_us=-5)))])

    row = LedgerEntry.objects.get()
    assert row.tokens_in == 2**62
    assert row.queue_us == 0


def test_text_that_no_column_holds_is_cut(alice: User) -> None:
    wide = "x" * 1000
    texts = {"model_name": f"a\0{wide}", "key_name": wide, "team_name": wide, "kind": wide}
    ledger.write([(begin("a", user_id=alice.pk, **texts), structs.replace(end("a"), node=wide))])

    row = LedgerEntry.objects.get()
    assert row.model_name.startswith("a\N{REPLACEMENT CHARACTER}x")
    lengths = [len(getattr(row, name)) for name in ("model_name", "key_name", "team_name", "kind")]
    assert [*lengths, len(row.node)] == [700, 120, 80, 12, 80]


def test_old_rows_go_and_their_sums_stay(settings: Any) -> None:
    settings.LEDGER_KEPT_S = 86400.0
    now_us = int(timezone.now().timestamp() * 1_000_000)
    ledger.write([ended("old"), ended("new", at_us=now_us)])

    assert ledger.remove_old() == 1
    assert [row.request_id for row in LedgerEntry.objects.all()] == ["new"]
    assert LedgerHour.objects.count() == 2


def test_endless_ledger_loses_nothing(settings: Any) -> None:
    settings.LEDGER_KEPT_S = float("inf")
    ledger.write([ended("old")])

    assert ledger.remove_old() == 0


# ------------------------------------------------------------------ the process that writes


def test_writer_writes_what_has_ended_and_empties_its_journal(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.begin(begin("a"), Figures)
    assert writer.write() == 0
    writer.end(end("a"))

    assert writer.write() == 1
    assert [path.stat().st_size for path in tmp_path.glob(PATTERN)] == [0]
    writer.close()


def test_writer_tries_again_what_the_database_has_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_down(rows: object) -> list[str]:
        raise DatabaseError

    writer = LedgerWriter(tmp_path)
    writer.begin(begin("a"), Figures)
    writer.end(end("a"))
    with monkeypatch.context() as down:
        down.setattr(ledger, "write", is_down)
        with pytest.raises(DatabaseError):
            writer.write()
    writer.begin(begin("b"), Figures)
    writer.end(end("b"))

    assert writer.write() == 2
    writer.close()


def test_request_is_refused_where_the_journal_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file where the folder should be")

    with pytest.raises(LedgerUnavailable):
        LedgerWriter(tmp_path / "ledger").begin(begin("a"), Figures)


def test_end_that_the_journal_does_not_take_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(records: object) -> None:
        raise OSError("no space left on device")

    writer = LedgerWriter(tmp_path)
    writer.begin(begin("a"), Figures)
    with monkeypatch.context() as full:
        full.setattr(writer._journal, "append", is_full)
        writer.end(end("a"))

    assert writer.write() == 1
    assert LedgerEntry.objects.get().outcome == Outcome.DONE
    writer.close()


def test_progress_that_the_journal_does_not_take_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(records: object) -> None:
        raise OSError("no space left on device")

    writer = LedgerWriter(tmp_path)
    writer.begin(begin("a"), lambda: Figures(tokens_out=7))
    with monkeypatch.context() as full:
        full.setattr(writer._journal, "append", is_full)
        writer.tell_progress()
    writer.tell_progress()

    assert Progress("a", Figures(tokens_out=7)) in writer._journal.read()
    writer.close()


# ------------------------------------------------------------------ what the dead have left


def test_request_that_had_ended_is_written_as_it_ended(tmp_path: Path) -> None:
    left_behind(tmp_path, begin("a"), end("a", Outcome.LEFT))

    assert recover(tmp_path, nobody_knows) is False
    assert LedgerEntry.objects.get().outcome == Outcome.LEFT
    assert list(tmp_path.iterdir()) == []


def test_lost_request_has_what_the_node_has_counted(tmp_path: Path) -> None:
    left_behind(tmp_path, begin("a", messages=("m1", "m2")))
    known = {"m1": Figures(tokens_in=5, tokens_out=1), "m2": Figures(tokens_in=6, tokens_out=2)}

    assert recover(tmp_path, lambda _: Told(known)) is False
    row = LedgerEntry.objects.get()
    assert (row.outcome, row.node) == (Outcome.LOST, "local")
    assert (row.tokens_in, row.tokens_out) == (11, 3)


def test_node_is_asked_for_what_it_was_sent_last(tmp_path: Path) -> None:
    left_behind(
        tmp_path,
        begin("a"),
        begin("b", messages=("m1", "m2")),
        Placed("b", "m1", "gpu1"),
        Placed("b", "m2", "gpu1"),
        Placed("b", "m2", "gpu2"),
        begin("c"),
        Placed("c", "m-c", "gpu1"),
        end("c"),
    )
    asked = []

    def find(ids_by_node: Any) -> Told:
        asked.append(ids_by_node)
        return Told({"m-a": USED, "m1": USED, "m2": USED})

    assert recover(tmp_path, find) is False
    assert asked == [{"local": ["m-a"], "gpu1": ["m1"], "gpu2": ["m2"]}]
    rows = dict(LedgerEntry.objects.values_list("request_id", "node"))
    assert (rows["a"], rows["b"]) == ("local", "gpu2")


def test_where_requests_have_gone_outlives_a_journal_that_is_written_anew(tmp_path: Path) -> None:
    still_open = OpenRequests()
    records: list[Record] = [begin("a"), Placed("a", "m-a", "gpu1"), Progress("a", USED)]
    still_open.feed(records)
    assert list(still_open.records()) == records
    still_open.feed([end("a")])
    assert still_open.nodes_of("a") == {}


def test_node_is_waited_for_and_then_the_last_progress_holds(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.begin(begin("a"), lambda: Figures(tokens_in=4, tokens_out=2))
    writer.tell_progress()
    writer.close()

    assert recover(tmp_path, nobody_knows) is True
    assert LedgerEntry.objects.count() == 0
    assert recover(tmp_path, nobody_knows, grace_s=0.0) is False
    row = LedgerEntry.objects.get()
    assert (row.outcome, row.tokens_in, row.tokens_out) == (Outcome.LOST, 4, 2)


def test_node_that_does_not_answer_is_waited_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(tmp_path, begin("a"), Placed("a", "m-a", "gpu1"), begin("b"))

    assert recover(tmp_path, lambda _: Told({}, silent=["gpu1"]), grace_s=0.0) is True
    assert LedgerEntry.objects.get().request_id == "b"  # which was not sent there
    monkeypatch.setattr(ledger_recovery, "SILENT_GRACE_S", 0.0)
    assert recover(tmp_path, lambda _: Told({}, silent=["gpu1"]), grace_s=0.0) is False
    assert LedgerEntry.objects.get(request_id="a").outcome == Outcome.LOST


def test_recovery_that_died_in_the_middle_is_done_again(tmp_path: Path) -> None:
    left_behind(tmp_path, begin("a"), end("a"), begin("b"), end("b"))
    ledger.write([ended("a")])

    recover(tmp_path, nobody_knows)
    assert LedgerHour.objects.get().requests == 2


def test_journal_that_cannot_be_opened_keeps_no_other_from_being_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        left_behind(tmp_path, begin(name), end(name))
    first, _ = sorted(tmp_path.iterdir())
    take = LeftJournal.take

    def of_the_owner(path: Path) -> LeftJournal | None:  # tests may run as root, who opens all
        if path == first:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return take(path)

    monkeypatch.setattr(LeftJournal, "take", of_the_owner)
    assert recover(tmp_path, nobody_knows) is False
    assert LedgerEntry.objects.count() == 1
    assert list(tmp_path.iterdir()) == [first]


def test_journal_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.begin(begin("a"), Figures)

    assert recover(tmp_path, nobody_knows, grace_s=0.0) is False
    assert LedgerEntry.objects.count() == 0
    writer.close()
