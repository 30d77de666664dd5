"""Ranges of downloads and chunks of uploads, as RFC 9110 and the OCI spec have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.byte_ranges import ByteRange, parse_chunk, parse_range
from registry.errors import RangeNotSatisfiable


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, 1999),
        ("bytes=-500", 1500, 1999),
        ("bytes=-5000", 0, 1999),
        ("bytes=1999-1999", 1999, 1999),
        ("bytes=1000-5000", 1000, 1999),
        (f"bytes=0-{'9' * 25}", 0, 1999),
        ("Bytes = 0 - 9", 0, 9),
    ],
)
def test_part_of_a_file_is_found(header: str, first: int, last: int) -> None:
    assert parse_range(header, 2000) == ByteRange(first, last)


@pytest.mark.parametrize(
    "header",
    [
        *("bytes=500-0", "bytes=2000-", "bytes=5000-10000", "bytes=-0", "bytes=-", "bytes="),
        *("bytes=abc", "bytes=1-2-3", f"bytes={'9' * 25}-", "bytes=\u0661-"),
    ],
)
def test_part_that_is_not_there_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_range(header, 2000)

    assert refused.value.headers == {"Content-Range": "bytes */2000"}


@pytest.mark.parametrize("header", ["bytes=0-1,5-9", "items=0-1", "", "nonsense", "=0-1"])
def test_several_parts_or_other_units_are_the_whole(header: str) -> None:
    assert parse_range(header, 2000) is None


def test_empty_file_has_no_part() -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range("bytes=0-", 0)


@given(st.text(), st.integers(0, 10**6))
def test_no_header_crashes_the_parser(text: str, size_bytes: int) -> None:
    try:
        part = parse_range(f"bytes={text}", size_bytes)
    except RangeNotSatisfiable:
        return
    assert part is None or 0 <= part.first <= part.last < size_bytes


def test_chunk_of_an_upload_has_both_ends() -> None:
    chunk = parse_chunk("5-9")

    assert chunk == ByteRange(5, 9)
    assert chunk.size_bytes == 5


@pytest.mark.parametrize(
    "header", ["bytes 0-9/10", "0-", "-9", "9-0", "abc", "", "0-9 ", f"0-{'9' * 20}", "0-9\n"]
)
def test_other_ways_to_write_a_chunk_make_no_sense(header: str) -> None:
    assert parse_chunk(header) is None
