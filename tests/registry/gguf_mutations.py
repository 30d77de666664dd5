"""Spoilt copies of a GGUF file, the same for the same seed. Knows no reader."""

import random
from typing import Final

# What breaks programs that compute with sizes they have read.
_NUMBERS: Final = (0, 1, 31, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_KINDS: Final = ("byte", "byte", "number", "number", "short number", "cut", "remove", "repeat")
_MOST_BYTES: Final = 64


def mutate(data: bytes, seed: int, *, head_bytes: int) -> bytes:
    """Return a copy with one to three changes in its first bytes, or cut short."""
    chance = random.Random(seed)  # noqa: S311 - tests need the same numbers again
    changed = data
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place = chance.randrange(head_bytes)
        kind = chance.choice(_KINDS)
        changed = _change(changed, place, kind, chance)
    return changed


def _change(data: bytes, place: int, kind: str, chance: random.Random) -> bytes:
    length = chance.randint(1, _MOST_BYTES)
    before, after = data[:place], data[place:]
    match kind:
        case "number":
            return before + chance.choice(_NUMBERS).to_bytes(8, "little") + after[8:]
        case "short number":
            return before + (chance.choice(_NUMBERS) % 2**32).to_bytes(4, "little") + after[4:]
        case "byte":
            return before + bytes([chance.randrange(256)]) + after[1:]
        case "remove":
            return before + after[length:]
        case "repeat":
            return before + after[:length] + after
    return before if chance.random() < 0.1 else data[: -chance.randint(1, 4096)]
