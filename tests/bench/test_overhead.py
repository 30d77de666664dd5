"""How lost tokens are counted."""

from bench.chat import Answer
from bench.overhead import lost_tokens


def test_all_tokens_in_their_places_are_none_lost() -> None:
    assert lost_tokens(Answer(pieces=["0:11 ", "1:12 2:13 "]), 3) == 0


def test_a_missing_last_token_is_lost() -> None:
    assert lost_tokens(Answer(pieces=["0:11 ", "1:12 "]), 3) == 1


def test_swapped_tokens_are_lost() -> None:
    assert lost_tokens(Answer(pieces=["0:11 ", "2:13 ", "1:12 "]), 3) == 2


def test_a_token_sent_twice_is_seen() -> None:
    assert lost_tokens(Answer(pieces=["0:11 ", "1:12 ", "1:12 "]), 2) == 1
