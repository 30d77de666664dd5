"""Token bytes → text: UTF-8 is never cut, stop strings never leak."""

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.text import TextStream


def _feed(stream: TextStream, pieces: list[bytes]) -> list[str]:
    return [stream.push(piece) for piece in pieces]


def test_characters_split_over_tokens_come_out_whole() -> None:
    stream = TextStream()
    assert _feed(stream, [b"\xf0\x9f", b"\x98", b"\x80!"]) == ["", "", "😀!"]


def test_a_character_that_never_gets_whole_is_dropped_at_the_end() -> None:
    stream = TextStream()
    assert stream.push(b"a\xf0\x9f") == "a"
    assert stream.flush() == ""


def test_invalid_bytes_become_replacement_characters() -> None:
    assert TextStream().push(b"a\xffb") == "a\ufffdb"


def test_a_stop_string_over_several_tokens_is_not_shown() -> None:
    stream = TextStream(["<|end|>"])
    assert _feed(stream, [b"hi<", b"|en", b"d|>more"]) == ["hi", "", ""]
    assert stream.has_stopped
    assert stream.flush() == ""


def test_what_only_looks_like_a_stop_string_is_shown_later() -> None:
    stream = TextStream(["<|end|>"])
    assert _feed(stream, [b"a<|", b"b"]) == ["a", "<|b"]
    assert not stream.has_stopped


def test_held_back_text_is_shown_at_the_end() -> None:
    stream = TextStream(["###"])
    assert stream.push(b"x##") == "x"
    assert stream.flush() == "##"


def test_the_earliest_of_several_stop_strings_wins() -> None:
    stream = TextStream(["two", "one"])
    assert stream.push(b"zero one two") == "zero "


@given(
    text=st.text(alphabet="ab<|é😀", max_size=40),
    stops=st.lists(st.text(alphabet="ab<|é", min_size=1, max_size=3), max_size=3),
    cuts=st.lists(st.integers(1, 5), min_size=1),
)
def test_the_shown_text_is_the_text_before_the_first_stop_string(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    data = text.encode()
    stream = TextStream(stops)
    shown = ""
    at = 0
    turn = 0
    while at < len(data) and not stream.has_stopped:
        size = cuts[turn % len(cuts)]
        shown += stream.push(data[at : at + size])
        at, turn = at + size, turn + 1
    shown += stream.flush()
    assert not any(stop in shown for stop in stops)
    assert text.startswith(shown)
    if not stream.has_stopped:
        assert shown == text
