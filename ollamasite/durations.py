"""Durations as people write them in settings and on the command line. Knows nothing of either."""

import re
from typing import Final

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def parse_duration_s(text: str) -> float:
    """Return the seconds that `300`, `90s`, `1h30m` or `-1` (infinite) stand for.

    Raises ValueError.
    """
    if text == "-1":
        return float("inf")
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(text)
    return float(sum(float(number) * _UNITS_S[unit] for number, unit in parts))
