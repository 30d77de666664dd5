"""Split GGUF files: joined to what they were, or refused because something is wrong."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from registry.errors import GgufError
from registry.gguf import GgufFile, read_gguf
from registry.gguf_split import Part, check_parts, joined, joined_size_bytes
from tests.gguf_files import write_split_model, write_tiny_model


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_split_model(tmp_path_factory.mktemp("split"))


@pytest.fixture
def parts(paths: list[Path]) -> list[GgufFile]:
    return [read_gguf(path) for path in paths]


@pytest.fixture
def opened(paths: list[Path]) -> Iterator[list[Part]]:
    parts = [Part(read_gguf(path), path.open("rb")) for path in paths]
    yield parts
    for part in parts:
        part.file.close()


def with_key(part: GgufFile, key: str, value: int) -> GgufFile:
    return replace(part, metadata={**part.metadata, key: value})


def test_joined_file_is_the_one_that_was_never_split(opened: list[Part], tmp_path: Path) -> None:
    whole = write_tiny_model(tmp_path / "whole.gguf").read_bytes()
    assert b"".join(joined(opened)) == whole


def test_order_of_the_parts_does_not_matter(opened: list[Part]) -> None:
    assert b"".join(joined(opened[::-1])) == b"".join(joined(opened))


def test_room_for_the_joined_file_is_not_estimated_too_small(opened: list[Part]) -> None:
    size_bytes = len(b"".join(joined(opened)))
    assert size_bytes <= joined_size_bytes([part.gguf for part in opened]) <= size_bytes + 4096


def test_pieces_are_small(opened: list[Part]) -> None:
    assert max(len(piece) for piece in joined(opened)) <= 4 * 1024 * 1024


def test_file_that_became_shorter_is_refused(opened: list[Part]) -> None:
    shorter = Part(opened[2].gguf, io.BytesIO(b"GGUF"))
    with pytest.raises(GgufError, match="cut short"):
        list(joined([*opened[:2], shorter]))


def test_complete_parts_are_accepted(parts: list[GgufFile]) -> None:
    check_parts(parts[::-1])


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_missing_part_is_named(parts: list[GgufFile], missing: int) -> None:
    del parts[missing]
    with pytest.raises(
        GgufError, match=f"part {missing + 1} of 3 of the split GGUF file is missing"
    ):
        check_parts(parts)


def test_part_given_twice_is_named(parts: list[GgufFile]) -> None:
    with pytest.raises(GgufError, match="part 2 of 3 of the split GGUF file is there twice"):
        check_parts([*parts, parts[1]])


def test_parts_of_different_counts_are_refused(parts: list[GgufFile]) -> None:
    parts[1] = with_key(parts[1], "split.count", 4)
    with pytest.raises(GgufError, match="parts of different models"):
        check_parts(parts)


def test_part_beyond_the_count_is_refused(parts: list[GgufFile]) -> None:
    stray = with_key(parts[1], "split.no", 7)
    with pytest.raises(GgufError, match="split into 3 parts, not 4"):
        check_parts([*parts, stray])


def test_whole_file_beside_parts_is_refused(parts: list[GgufFile], tmp_path: Path) -> None:
    whole = read_gguf(write_tiny_model(tmp_path / "whole.gguf"))
    with pytest.raises(GgufError, match="parts of different models"):
        check_parts([*parts, whole])


def test_huge_count_is_refused(parts: list[GgufFile]) -> None:
    with pytest.raises(GgufError, match="split into 65535 parts, more than 512"):
        check_parts([with_key(parts[0], "split.count", 65535)])


def test_wrong_number_of_tensors_is_refused(parts: list[GgufFile]) -> None:
    parts[0] = with_key(parts[0], "split.tensors.count", 99)
    with pytest.raises(GgufError, match="have 21 tensors, not 99"):
        check_parts(parts)


def test_tensor_in_two_parts_is_refused(parts: list[GgufFile]) -> None:
    parts[1] = replace(parts[1], tensors=parts[0].tensors)
    with pytest.raises(GgufError, match="have a tensor twice"):
        check_parts(parts)
