"""Sizes as people write and read them. Knows nothing of what is measured."""

import re
from typing import Final

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?")
_UNITS: Final = ("", "K", "M", "G", "T")
_STEP: Final = 1024


def parse_size(text: str) -> int:
    """Return the bytes that `1073741824`, `512MiB`, `12GiB` or `12G` stand for.

    Raises ValueError.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return int(float(found[1]) * _STEP ** _UNITS.index(found[2]))


def print_size(size_bytes: int) -> str:
    """Return a number of bytes for people: `0 B`, `512.0 MiB`, `1.5 GiB`."""
    if size_bytes < _STEP:
        return f"{size_bytes} B"
    power = min((size_bytes.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{size_bytes / _STEP**power:.1f} {_UNITS[power]}iB"
