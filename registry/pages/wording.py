"""Sizes, speeds and times as people read them. Knows nothing of what is measured."""

from typing import Final

_STEP: Final = 1000
_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
_ONE_FIGURE: Final = 9.95
_MINUTE_S: Final = 60
_MINUTES: Final = 60
_DAY_S: Final = 86_400


def size_in_words(size_bytes: float) -> str:
    """Return a size in decimal units, with a decimal where it has one figure: `4.2 GB`."""
    size, unit = float(size_bytes), 0
    while round(size) >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    has_decimal = unit > 0 and size < _ONE_FIGURE
    return f"{size:.1f} {_UNITS[unit]}" if has_decimal else f"{size:.0f} {_UNITS[unit]}"


def duration_in_words(seconds: float) -> str:
    """Return a time with one unit, or two where the first is large: `12 s`, `4 min`, `2 h 5 min`.

    Coarse on purpose: it is how long something will take.
    """
    if seconds >= _DAY_S:
        return "more than a day"
    if round(seconds) < _MINUTE_S:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / _MINUTE_S), _MINUTES)
    parts = [(hours, "h"), (minutes, "min")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def percent(completed: int, total: int) -> int:
    """Return how much of something is done, in whole percent; all of nothing is 0."""
    return min(100, 100 * completed // total) if total > 0 else 0
