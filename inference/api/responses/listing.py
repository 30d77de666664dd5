"""Pages of a list in OpenAI's dialect: `limit`, `order`, `after`. Knows no request and no item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from inference.responses import Item
from ollamasite.errors import BadRequest

_DEFAULT_LIMIT: Final = 20
_MAX_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Which items are wanted: `after` is the id of the last one that is known, empty for none."""

    limit: int
    is_ascending: bool
    after: str

    def of(self, items: Sequence[Item]) -> dict[str, Any]:
        """Return this page of items that are given in rising order. Raises BadRequest."""
        ordered = list(items) if self.is_ascending else list(reversed(items))
        start = self._start(ordered)
        shown = ordered[start : start + self.limit]
        return {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": start + self.limit < len(ordered),
        }

    def _start(self, ordered: Sequence[Item]) -> int:
        if not self.after:
            return 0
        for at, item in enumerate(ordered):
            if item["id"] == self.after:
                return at + 1
        raise BadRequest(f"Item with id '{self.after}' not found.", param="after")


def read_page(params: Mapping[str, Any]) -> Page:
    """Return which page a query asks for. Raises BadRequest."""
    text = params.get("limit", str(_DEFAULT_LIMIT))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < len("1000") else 0
    if not 1 <= limit <= _MAX_LIMIT:
        raise BadRequest(f"limit must be between 1 and {_MAX_LIMIT}", param="limit")
    order = params.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise BadRequest('order must be "asc" or "desc"', param="order")
    return Page(limit=limit, is_ascending=order == "asc", after=params.get("after", ""))
