"""Pages of lists in name order: `limit`, and `after`, the last name of the page before.

Knows no route and no row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ollamasite import query_fields

DEFAULT_LISTED: Final = 50
MAX_LISTED: Final = 500


class _Named(Protocol):
    name: str


@dataclass(frozen=True, slots=True)
class Page:
    """What is asked for."""

    limit: int
    after: str

    def next_name(self, found: Sequence[object], shown: Sequence[_Named]) -> str | None:
        """Return the `after` of the next page; None where `found`, one more, is all there is."""
        return shown[-1].name if len(found) > len(shown) else None


def read(request: Any) -> Page:
    """Return what a request asks for. Raises BadRequest."""
    query = request.query_params
    limit = query_fields.number(query, "limit", default=DEFAULT_LISTED, most=MAX_LISTED)
    return Page(limit, query_fields.line(query, "after"))
