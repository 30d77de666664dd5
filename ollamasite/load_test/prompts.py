"""Texts to ask with, of about so many tokens, no two alike. Pure; knows no vocabulary.

They differ from their first word on: a server that keeps what it has computed cannot use it again.
"""

import random
from typing import Final

_TEXT: Final = (
    "river garden window letter morning captain village bridge winter summer market teacher "
    "silver kitchen music forest island doctor journey mountain harbour station painter lantern "
    "story evening shadow family answer paper question brother sister wooden yellow quiet early "
    "distant narrow gentle famous broken golden heavy simple strange careful modern ancient"
)
_WORDS: Final = tuple(_TEXT.split())
_TASK: Final = "Write a very long story in which these words occur."


def text_of(words: int, seed: int) -> str:
    """Return a text of so many words and a task at its end."""
    chosen = random.Random(seed).choices(_WORDS, k=words)  # noqa: S311 - no secret
    return f"{seed}: {' '.join(chosen)}. {_TASK}"


def words_for(tokens: int, tried: tuple[tuple[int, int], tuple[int, int]]) -> int:
    """Return how many words make so many tokens, after two tries of (words, tokens).

    At least one.
    """
    (few, few_tokens), (many, many_tokens) = tried
    per_word = (many_tokens - few_tokens) / (many - few)
    if per_word <= 0:
        return tokens
    return max(1, round(few + (tokens - few_tokens) / per_word))
