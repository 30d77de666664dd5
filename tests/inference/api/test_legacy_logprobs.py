"""Log probabilities as `/v1/completions` writes them."""

import pytest

from inference.api.openai.legacy_logprobs import LogprobsWriter, joined, mean_logprob, token_text
from inference.messages import TokenLogprob, TopToken


def token(text: str | bytes, logprob: float = -1.0, *top: tuple[bytes, float]) -> TokenLogprob:
    others = tuple(TopToken(token=other, logprob=value) for other, value in top)
    content = text.encode() if isinstance(text, str) else text
    return TokenLogprob(token=content, logprob=logprob, top=others)


def test_four_lists_are_in_step() -> None:
    written = LogprobsWriter(1).write([token("Hi", -0.5, (b"Hi", -0.5)), token("!", -2)])

    assert written == {
        "tokens": ["Hi", "!"],
        "token_logprobs": [-0.5, -2],
        "top_logprobs": [{"Hi": -0.5}, {"!": -2}],
        "text_offset": [0, 2],
    }


def test_token_that_came_is_among_the_alternatives() -> None:
    [top] = LogprobsWriter(1).write([token("b", -3, (b"a", -0.1))])["top_logprobs"]

    assert top == {"a": -0.1, "b": -3}


def test_no_alternatives_were_asked_for() -> None:
    assert LogprobsWriter(0).write([token("a")])["top_logprobs"] is None


def test_first_token_of_a_prompt_has_no_probability() -> None:
    written = LogprobsWriter(1).write([token("a", 0.0), token("b")], is_prompt=True)

    assert written["token_logprobs"] == [None, -1.0]
    assert written["top_logprobs"] == [None, {"b": -1.0}]


def test_offsets_go_on_in_characters() -> None:
    writer = LogprobsWriter(0)
    first = writer.write([token("é"), token("x")])
    second = writer.write([token("y")])

    assert joined(first, second)["text_offset"] == [0, 1, 2]


def test_halves_of_a_character_count_once() -> None:
    smile = "☺".encode()
    offsets = LogprobsWriter(0).write([token(smile[:1]), token(smile[1:]), token("a")])

    assert offsets["text_offset"] == [0, 1, 1]


def test_what_the_text_does_not_have_moves_no_offset() -> None:
    written = LogprobsWriter(0, hidden_bytes=4).write([token("<s>"), token(" Hi"), token("!")])

    assert written["text_offset"] == [0, 0, 2]


def test_joined_pieces_may_lack_alternatives() -> None:
    writer = LogprobsWriter(0)
    whole = joined(writer.write([token("a")]), writer.write([token("b")]))

    assert (whole["tokens"], whole["top_logprobs"]) == (["a", "b"], None)


def test_impossible_token_has_a_finite_probability() -> None:
    never = float("-inf")
    written = LogprobsWriter(1).write([token("a", never, (b"b", never))])

    assert written["token_logprobs"] == [-9999.0]
    assert written["top_logprobs"] == [{"b": -9999.0, "a": -9999.0}]


def test_half_a_character_shows_its_bytes() -> None:
    assert token_text(b"\xe2\x98") == "bytes:\\xe2\\x98"


def test_mean_is_per_token() -> None:
    assert mean_logprob([token("a", -1), token("b", -3)]) == pytest.approx(-2)


def test_nothing_is_worse_than_anything() -> None:
    assert mean_logprob([]) < mean_logprob([token("a", -1e9)])
