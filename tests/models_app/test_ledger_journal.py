"""The journal of requests: what survives, and who may take up what."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models_app.ledger_journal import (
    PATTERN,
    Begin,
    End,
    Figures,
    Journal,
    LeftJournal,
    OpenRequests,
    Progress,
    Record,
    encode,
    sum_of,
)


def begin(request_id: str = "a") -> Begin:
    return Begin(request_id=request_id, at_us=1_000_000, messages=(request_id,), user_name="alice")


def end(request_id: str = "a", outcome: str = "done") -> End:
    return End(
        request_id=request_id, at_us=2_000_000, outcome=outcome, figures=Figures(tokens_in=3)
    )


def left_records(path: Path) -> list[Record]:
    journal = LeftJournal.take(path)
    assert journal is not None
    records = [record for portion in journal.read() for record in portion]
    journal.close()
    return records


def only_file(folder: Path) -> Path:
    [path] = folder.glob(PATTERN)
    return path


def test_what_was_appended_is_read_once_and_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([begin()])
    journal.append([Progress("a", Figures(tokens_out=1)), end()])

    assert journal.read() == [begin(), Progress("a", Figures(tokens_out=1)), end()]
    assert journal.read() == []
    journal.close()


def test_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    whole = encode(begin("a")) + encode(begin("b"))[:-5] + encode(end("a"))
    (tmp_path / "web-1-x.jsonl").write_bytes(whole + encode(begin("c"))[:-1])

    assert left_records(tmp_path / "web-1-x.jsonl") == [begin("a"), end("a")]


def test_record_that_is_read_in_two_halves_is_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([begin()])
    path = only_file(tmp_path)
    line = encode(end())
    with path.open("ab") as file:
        file.write(line[:20])
        file.flush()
        first = journal.read()
        file.write(line[20:])

    assert first == [begin()]
    assert journal.read() == [end()]
    journal.close()


def test_journal_of_a_living_process_is_nobody_elses(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([begin()])

    assert LeftJournal.take(only_file(tmp_path)) is None
    journal.close()


def test_journal_of_a_killed_process_is_taken_up_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from models_app.ledger_journal import Begin, Journal\n"
        "Journal(Path(sys.argv[1])).append([Begin(request_id='a', at_us=1)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)

    journal = LeftJournal.take(only_file(tmp_path))
    assert journal is not None
    assert [record for portion in journal.read() for record in portion] == [
        Begin(request_id="a", at_us=1)
    ]
    assert LeftJournal.take(journal.path) is None  # it is held
    journal.remove()
    journal.close()
    assert LeftJournal.take(journal.path) is None  # it is gone


def test_file_is_emptied_when_nothing_is_open(tmp_path: Path) -> None:
    journal, still_open = Journal(tmp_path), OpenRequests()
    journal.append([begin(), end()])
    still_open.feed(journal.read())
    journal.shorten(still_open)

    assert only_file(tmp_path).stat().st_size == 0
    journal.append([begin("b")])
    assert journal.read() == [begin("b")]
    journal.close()


def test_what_was_not_read_is_not_shortened_away(tmp_path: Path) -> None:
    journal, still_open = Journal(tmp_path), OpenRequests()
    journal.append([begin(), end()])
    still_open.feed(journal.read())
    journal.append([begin("b")])
    journal.shorten(still_open)

    assert journal.read() == [begin("b")]
    journal.close()


def test_long_file_keeps_only_what_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models_app.ledger_journal._LONG_BYTES", 1000)
    journal, still_open = Journal(tmp_path), OpenRequests()
    journal.append([begin("open"), Progress("open", Figures(tokens_out=7))])
    for number in range(50):
        journal.append([begin(str(number)), end(str(number))])
    still_open.feed(journal.read())
    journal.shorten(still_open)
    journal.append([begin("new")])

    assert LeftJournal.take(only_file(tmp_path)) is None  # the new file is held as well
    assert journal.read() == [begin("new")]
    journal.close()
    assert left_records(only_file(tmp_path)) == [
        begin("open"),
        Progress("open", Figures(tokens_out=7)),
        begin("new"),
    ]


def test_closed_journal_leaves_a_file_only_where_something_is_open(tmp_path: Path) -> None:
    journal, still_open = Journal(tmp_path), OpenRequests()
    journal.append([begin(), end()])
    still_open.feed(journal.read())
    journal.shorten(still_open)
    journal.close()

    assert list(tmp_path.glob(PATTERN)) == []


def test_full_disk_is_told(tmp_path: Path) -> None:
    """A file that may not grow stands for a full disk."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from models_app.ledger_journal import Begin, Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "try:\n"
        "    Journal(Path(sys.argv[1])).append([Begin(request_id='a', at_us=1)])\n"
        "except OSError as error:\n"
        "    sys.exit(error.errno)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)

    assert ended.returncode in {errno.ENOSPC, errno.EFBIG}
    assert os.listdir(tmp_path)  # noqa: PTH208 - of any name
    assert left_records(only_file(tmp_path)) == []


def test_requests_end_with_what_began_them() -> None:
    still_open = OpenRequests()

    assert still_open.feed([begin("a"), begin("b"), Progress("b", Figures(tokens_out=2))]) == []
    assert still_open.feed([end("a"), end("nobody's")]) == [(begin("a"), end("a"))]
    assert list(still_open) == [(begin("b"), Figures(tokens_out=2))]


def test_messages_of_a_call_are_added_up_but_for_their_waits() -> None:
    both = sum_of(
        [
            Figures(tokens_in=1, tokens_out=2, queue_us=5, load_us=7, compute_us=1),
            Figures(tokens_in=10, tokens_out=20, queue_us=3, load_us=9, compute_us=2),
        ]
    )

    assert both == Figures(tokens_in=11, tokens_out=22, queue_us=5, load_us=9, compute_us=3)


def test_progress_that_is_told_after_the_end_is_forgotten() -> None:
    still_open = OpenRequests()
    still_open.feed([begin("a"), end("a"), Progress("a", Figures(tokens_out=2))])
    still_open.feed([begin("a")])

    assert list(still_open) == [(begin("a"), Figures())]


def test_journal_that_was_taken_for_a_left_one_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody looks for journals in the moment between the file's making and its lock."""
    lock = fcntl.flock
    takers = ["somebody"]

    def lock_after_somebody_else(descriptor: int, how: int) -> None:
        if takers:
            takers.clear()
            left = LeftJournal.take(only_file(tmp_path))
            assert left is not None
            left.remove()
            left.close()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_after_somebody_else)
    journal = Journal(tmp_path)
    journal.append([begin()])

    assert LeftJournal.take(only_file(tmp_path)) is None
    journal.close()
    assert left_records(only_file(tmp_path)) == [begin()]


def test_child_that_was_forked_meanwhile_does_not_hold_a_left_journal(tmp_path: Path) -> None:
    path = tmp_path / "web-1-x.jsonl"
    path.write_bytes(encode(begin()))
    journal = LeftJournal.take(path)
    assert journal is not None
    inherited = os.dup(journal._descriptor)  # what a child has of it
    journal.close()

    assert left_records(path) == [begin()]
    os.close(inherited)
