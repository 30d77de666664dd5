"""A line graph as SVG text. Knows nothing of what the lines mean."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_WIDTH: Final = 900
_HEIGHT: Final = 420
_LEFT: Final = 60
_RIGHT: Final = 200
_TOP: Final = 30
_BOTTOM: Final = 40
_TICKS: Final = 5
_COLOURS: Final = ("#1b6ca8", "#c8553d", "#2e8b57", "#8e5ea2", "#b8860b", "#444444", "#d16ba5")

Points = Sequence[tuple[float, float]]


def line_graph(title: str, x_name: str, lines: Mapping[str, Points]) -> str:
    """Return a picture of lines over one pair of axes that begin at 0."""
    x_max = max((x for points in lines.values() for x, _ in points), default=0.0) or 1.0
    y_max = (max((y for points in lines.values() for _, y in points), default=0.0) or 1.0) * 1.1
    drawn = [_text(_LEFT, _TOP - 12, title), *_axes(x_name, x_max, y_max)]
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = " ".join(f"{_x(x, x_max):.1f},{_y(y, y_max):.1f}" for x, y in points)
        drawn.append(f'<polyline fill="none" stroke="{colour}" points="{places}"/>')
        drawn.append(_text(_WIDTH - _RIGHT + 12, _TOP + 16 + 18 * number, name, colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>{"".join(drawn)}</svg>\n'
    )


def _axes(x_name: str, x_max: float, y_max: float) -> list[str]:
    drawn = []
    for tick in range(_TICKS + 1):
        x, y = x_max * tick / _TICKS, y_max * tick / _TICKS
        level = _y(y, y_max)
        drawn.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{level:.1f}" y2="{level:.1f}" '
            'stroke="#dddddd"/>'
        )
        drawn.append(_text(8, level + 4, f"{y:.0f}"))
        drawn.append(_text(_x(x, x_max) - 8, _HEIGHT - _BOTTOM + 16, f"{x:.1f}"))
    return [*drawn, _text(_LEFT, _HEIGHT - 8, x_name)]


def _x(value: float, largest: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * value / largest


def _y(value: float, largest: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / largest


def _text(x: float, y: float, text: str, colour: str = "#222222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{escape(text)}</text>'
