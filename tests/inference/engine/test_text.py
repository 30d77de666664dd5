"""Token bytes → text: UTF-8 is never cut, stop strings never leak, logprobs follow their text."""

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.text import TextStream
from inference.messages import TokenLogprob


def _feed(stream: TextStream, pieces: list[bytes]) -> list[str]:
    return [stream.push(piece).text for piece in pieces]


def _logprob(token: bytes) -> TokenLogprob:
    return TokenLogprob(token=token, logprob=-1.0)


def _feed_scored(stream: TextStream, pieces: list[bytes]) -> list[tuple[str, list[bytes]]]:
    """Push every piece with a logprob of its own; return text and whose logprobs came with it."""
    return [
        (text, [each.token for each in logprobs])
        for text, logprobs in (stream.push(piece, _logprob(piece)) for piece in pieces)
    ]


def test_characters_split_over_tokens_come_out_whole() -> None:
    stream = TextStream()
    assert _feed(stream, [b"\xf0\x9f", b"\x98", b"\x80!"]) == ["", "", "😀!"]


def test_a_character_that_never_gets_whole_is_dropped_at_the_end() -> None:
    stream = TextStream()
    assert stream.push(b"a\xf0\x9f").text == "a"
    assert stream.flush().text == ""


def test_invalid_bytes_become_replacement_characters() -> None:
    assert TextStream().push(b"a\xffb").text == "a\ufffdb"


def test_a_stop_string_over_several_tokens_is_not_shown() -> None:
    stream = TextStream(["<|end|>"])
    assert _feed(stream, [b"hi<", b"|en", b"d|>more"]) == ["hi", "", ""]
    assert stream.has_stopped
    assert stream.flush().text == ""


def test_what_only_looks_like_a_stop_string_is_shown_later() -> None:
    stream = TextStream(["<|end|>"])
    assert _feed(stream, [b"a<|", b"b"]) == ["a", "<|b"]
    assert not stream.has_stopped


def test_held_back_text_is_shown_at_the_end() -> None:
    stream = TextStream(["###"])
    assert stream.push(b"x##").text == "x"
    assert stream.flush().text == "##"


def test_of_several_stop_strings_the_first_to_be_complete_wins() -> None:
    stream = TextStream(["one two", "two", "zero"])
    assert stream.push(b"a zero one two").text == "a "


def test_an_empty_stop_string_stops_nothing() -> None:
    stream = TextStream([""])
    assert stream.push(b"hello").text == "hello"
    assert not stream.has_stopped


def test_nothing_is_shown_after_the_stop_string() -> None:
    stream = TextStream(["."])
    assert _feed_scored(stream, [b"a.", b"b"]) == [("a", [b"a."]), ("", [])]


def test_logprobs_come_with_their_tokens_text() -> None:
    assert _feed_scored(TextStream(), [b"a", b"b"]) == [("a", [b"a"]), ("b", [b"b"])]


def test_logprobs_of_the_parts_of_a_character_come_with_the_character() -> None:
    assert _feed_scored(TextStream(), [b"\xc3", b"\xa9"]) == [("", []), ("é", [b"\xc3", b"\xa9"])]


def test_logprobs_of_a_token_without_text_come_with_the_next_text() -> None:
    assert _feed_scored(TextStream(), [b"", b"a"]) == [("", []), ("a", [b"", b"a"])]


def test_logprobs_of_held_back_tokens_come_when_their_text_does() -> None:
    pieces = [b"a", b"#", b"#", b"b"]
    stream = TextStream(["###"])
    assert _feed_scored(stream, pieces)[1:] == [("", []), ("", []), ("##b", [b"#", b"#", b"b"])]


def test_logprobs_of_a_stop_strings_tokens_are_dropped() -> None:
    stream = TextStream(["###"])
    shown = _feed_scored(stream, [b"a#", b"#", b"#"])
    assert shown == [("a", [b"a#"]), ("", []), ("", [])]
    assert stream.flush() == ("", ())


def test_logprobs_of_tokens_that_were_held_back_come_at_the_end() -> None:
    stream = TextStream(["###"])
    _feed_scored(stream, [b"##", b"\xc3"])
    text, logprobs = stream.flush()
    assert (text, [each.token for each in logprobs]) == ("##", [b"##", b"\xc3"])


def _before_first_stop(text: str, stops: list[str]) -> str:
    """Read a character at a time until the text ends with a stop string; return what is before."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@given(
    text=st.text(alphabet="ab<|é😀", max_size=40),
    stops=st.lists(st.text(alphabet="ab<|é", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 5), min_size=1).filter(any),
)
def test_however_tokens_are_cut_the_text_ends_before_the_first_stop_string(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    data = text.encode()
    stream = TextStream(stops)
    shown, scored, pushed = "", 0, 0
    sizes = cycle(cuts)
    while data:
        size = next(sizes)
        piece, data = data[:size], data[size:]
        more, logprobs = stream.push(piece, _logprob(piece))
        shown, scored, pushed = shown + more, scored + len(logprobs), pushed + 1
    more, logprobs = stream.flush()
    assert shown + more == _before_first_stop(text, stops)
    assert stream.has_stopped or scored + len(logprobs) == pushed
