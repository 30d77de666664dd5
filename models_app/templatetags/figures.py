"""Numbers as people read them: `12.4K`, `3.4 s`; and the days of a year. Knows no table."""

from typing import Final

from django import template
from django.template.defaultfilters import pluralize
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from models_app.usage_charts import Heatmap

register = template.Library()

_THOUSAND: Final = 1000
_MS_US: Final = 1000
_S_US: Final = 1_000_000
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


@register.filter
def compact(number: int) -> str:
    """Return a number with three digits at most and a letter: 999, 1.2K, 34M."""
    value: float = number
    for letter in ("", "K", "M", "G", "T"):
        if round(value, 1) < _THOUSAND or letter == "T":
            break
        value /= _THOUSAND
    if not letter:
        return str(number)
    return f"{value:.1f}".removesuffix(".0") + letter if value < 100 else f"{value:.0f}{letter}"  # noqa: PLR2004 - three digits


@register.filter
def grouped(number: int) -> str:
    """Return a whole number with commas between its thousands."""
    return f"{number:,}"


@register.filter
def microseconds(us: int) -> str:
    """Return how long something took."""
    if us < _MS_US:
        return "0 ms" if us == 0 else "<1 ms"
    if us < _S_US:
        return f"{us // _MS_US} ms"
    seconds = us / _S_US
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), _MINUTE_S)
    if minutes < _MINUTE_S:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours:,} h {minutes} min"


@register.filter
def ahead(seconds: float) -> str:
    """Return how long it is until something: in its two largest units."""
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    hours, rest = divmod(whole, _HOUR_S)
    if hours < 48:  # noqa: PLR2004 - two days
        return f"{hours} h {rest // _MINUTE_S} min"
    return f"{hours // 24} days {hours % 24} h"


@register.simple_tag
def days_of(heatmap: Heatmap) -> SafeString:
    """Return the days of a year as squares, each with what was used on it.

    A template's own loop takes 16 ms for them.
    """
    return format_html_join(
        "\n",
        '<rect class="level{}" x="{}" y="{}" width=".84" height=".84" rx=".16">'
        "<title>{}</title></rect>",
        (
            (cell.level, cell.x, cell.y, f"{cell.day}: {_use(cell.tokens, cell.requests)}")
            for cell in heatmap.cells
        ),
    )


def _use(tokens: int, requests: int) -> str:
    if not requests:
        return "nothing"
    return f"{tokens:,} tokens, {requests:,} request{pluralize(requests)}"
