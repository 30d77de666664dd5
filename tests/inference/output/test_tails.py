"""Tails that begin a fixed text."""

import pytest

from inference.output.tails import begun_length


@pytest.mark.parametrize(
    ("text", "wanted", "length"),
    [
        ("", ("<a>",), 0),
        ("x", ("<a>",), 0),
        ("x<", ("<a>",), 1),
        ("<<a", ("<a>",), 2),
        ("x<a>", ("<a>",), 0),
        ("<<<", ("<<<<",), 3),
        ("aab", ("abb", "bc"), 2),
        ("aab", ("bc", "abb"), 2),
        ("ab", (), 0),
        ("xx", ('"',), 0),
    ],
)
def test_the_longest_tail_counts(text: str, wanted: tuple[str, ...], length: int) -> None:
    assert begun_length(text, wanted) == length
