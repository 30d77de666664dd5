"""Where a text holds names of control tokens."""

import pytest

from inference.prompting.control_names import ControlNames
from tests.timing import takes_at_most

NAMES = ControlNames(["<s>", "<s>x", "</s>", "[PAD]", "unused7", ""])


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", []),
        ("nothing", []),
        ("a<s>b", [(1, 4)]),
        ("<s></s>", [(0, 3), (3, 7)]),
        ("<s>xy", [(0, 4)]),
        ("a[PA", [(1, 4)]),
        ("</s><", [(0, 4), (4, 5)]),
        ("an unused7", [(3, 10)]),
        ("menu", []),
    ],
)
def test_names_and_a_begun_one_are_found(text: str, spans: list[tuple[int, int]]) -> None:
    assert NAMES.spans(text) == spans


@pytest.mark.parametrize(
    ("text", "is_part"), [("PAD", True), ("a<s>", True), ("pad", False), ("", False)]
)
def test_parts_of_names_are_known(text: str, is_part: bool) -> None:
    assert NAMES.are_made_of(text) is is_part


def test_a_vocabulary_may_have_no_control_tokens() -> None:
    names = ControlNames([])
    assert names.spans("<s>") == []
    assert not names.are_made_of("s")


def test_long_texts_take_little_time() -> None:
    names = ControlNames(f"<|reserved_{number}|>" for number in range(250))
    with takes_at_most(0.05):
        assert names.spans("words < and | more " * 5_000) == []
