"""The node's journal: found again by id, bounded, and no reason for a request to fail."""

from pathlib import Path

from inference.messages import Usage
from inference.node_journal import NodeEnd, NodeJournal, find_usages


def written(folder: Path, *ids: str, most_bytes: int = 10_000) -> None:
    journal = NodeJournal(folder, most_bytes=most_bytes)
    for request_id in ids:
        journal.append(NodeEnd(request_id, Usage(prompt_tokens=len(request_id))))
    journal.close()


def test_ends_are_found_by_their_ids(tmp_path: Path) -> None:
    written(tmp_path, "a", "bb")
    written(tmp_path, "ccc")  # the node was started again

    assert find_usages(tmp_path, ["bb", "ccc", "unknown"]) == {
        "bb": Usage(prompt_tokens=2),
        "ccc": Usage(prompt_tokens=3),
    }


def test_where_nothing_was_written_nothing_is_found(tmp_path: Path) -> None:
    assert find_usages(tmp_path / "nowhere", ["a"]) == {}


def test_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    written(tmp_path, "a")
    path = tmp_path / "ends.jsonl"
    path.write_bytes(path.read_bytes() + b'\n{"request_id":"torn","us')
    written(tmp_path, "b")

    assert set(find_usages(tmp_path, ["a", "torn", "b"])) == {"a", "b"}


def test_the_newest_ends_stay_and_the_files_stay_small(tmp_path: Path) -> None:
    ids = [str(number) for number in range(1000)]
    written(tmp_path, *ids, most_bytes=2000)

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    found = find_usages(tmp_path, ids)
    assert ids[-20:] == sorted(found, key=int)[-20:]


def test_disk_that_cannot_be_written_is_survived(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("")
    written(folder, "a", "b")

    assert folder.read_text() == ""
