"""Texts to ask with: reproducible, all different where they shall be. Knows no model.

Plain words in plain sentences, so that every vocabulary needs about as many tokens.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

_WHO: Final = (
    "The gardener", "A young pilot", "My neighbour", "The old captain", "Our teacher",
    "The night nurse", "A tired painter", "The village doctor", "His sister", "The librarian",
    "An honest baker", "The station master", "A curious child", "The violin maker", "Her uncle",
    "The mountain guide",
)  # fmt: skip
_DOES: Final = (
    "finds", "repairs", "describes", "carries", "remembers", "paints", "studies", "hides",
    "measures", "forgets", "borrows", "collects", "explains", "cleans", "watches", "returns",
)  # fmt: skip
_WHAT: Final = (
    "a silver key", "the broken clock", "an empty boat", "the oldest map", "a letter from home",
    "the green lantern", "a box of seeds", "the winter coat", "a heavy stone", "the blue door",
    "a small radio", "the wooden bridge", "a jar of honey", "the quiet garden", "a paper bird",
    "the long ladder",
)  # fmt: skip
_WHERE: Final = (
    "near the river", "before the first snow", "under the apple tree", "in the market square",
    "behind the school", "on the last train", "at the edge of town", "during the storm",
    "beside the harbour", "in the early morning", "above the bakery", "after the long war",
    "between two hills", "without any help", "in a foreign country", "until the bell rings",
)  # fmt: skip


def sentence(seed: str) -> str:
    """Return a sentence of about ten words; another seed gives another one, most likely."""
    a, b, c, d = hashlib.sha256(seed.encode()).digest()[:4]
    return f"{_WHO[a % 16]} {_DOES[b % 16]} {_WHAT[c % 16]} {_WHERE[d % 16]}."


def short_question(seed: str) -> Mapping[str, str]:
    """Return a user's turn that asks for a long answer."""
    content = (
        f"Write a very long story that begins like this: {sentence(seed)} {sentence(seed + 'b')}"
    )
    return {"role": "user", "content": content}


def long_text(seed: str, sentences: int) -> str:
    """Return a text of so many sentences, about eleven tokens each."""
    return " ".join(sentence(f"{seed}/{number}") for number in range(sentences))


def system_text(seed: str) -> str:
    """Return a system prompt of about 1,000 tokens that differs from its first words on."""
    return f"Notes {seed}. You tell stories. These are your notes. {long_text(seed, 88)}"
