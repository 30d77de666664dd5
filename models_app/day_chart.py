"""Bars, one a day, as numbers that an SVG is written with. Pure; knows no markup and no unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

HEIGHT: Final = 64
STEP: Final = 10
WIDTH_OF_BAR: Final = 7
_LEAST: Final = 2.0  # so that a little is not nothing


@dataclass(frozen=True, slots=True)
class Bar:
    """A day's bar, in the chart's own units; `height` 0: nothing."""

    day: date
    amount: int
    x: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars beside each other; `most` is what the highest stands for."""

    bars: tuple[Bar, ...]
    width: int
    height: int
    bar_width: int
    most: int


def bars(days: Sequence[tuple[date, int]]) -> Chart:
    """Return a chart of amounts by day, the highest as high as the chart."""
    most = max((amount for _, amount in days), default=0)
    drawn = []
    for number, (day, amount) in enumerate(days):
        height = max(_LEAST, HEIGHT * amount / most) if amount else 0.0
        drawn.append(Bar(day, amount, number * STEP, round(HEIGHT - height, 1), round(height, 1)))
    return Chart(tuple(drawn), len(drawn) * STEP, HEIGHT, WIDTH_OF_BAR, most)
