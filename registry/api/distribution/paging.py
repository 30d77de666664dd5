"""Pages of sorted names: `?n=` and `?last=`, with a Link to the next (contract/registry.md 2.1).

Knows no repository and no tag.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from ollamasite.errors import BadRequest

_MAX_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. `next_last` is the name it ends with where there are more, else empty."""

    names: list[str]
    next_last: str = ""


def page_of(names: Iterable[str], query: Mapping[str, str]) -> Page:
    """Return the names that a query asks for, in the order of their bytes. Raises BadRequest."""
    last = query.get("last", "").encode()
    ordered = sorted(name for name in names if name.encode() > last)
    limit = _limit(query.get("n", ""))
    if limit is None or limit >= len(ordered):
        return Page(ordered)
    shown = ordered[:limit]
    return Page(shown, shown[-1] if shown else "")


def link_to_next(path: str, query: Mapping[str, str], last: str) -> str:
    """Return the value of the header Link: the same list behind `last`."""
    further = urlencode({**query, "last": last})
    return f'<{quote(path, safe="/:")}?{further}>; rel="next"'


def _limit(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"invalid number of results: n={text!r}")
    # More digits than any list has entries, and no big number to be made of them.
    return int(text) if len(text) <= _MAX_DIGITS else None
