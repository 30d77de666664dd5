"""Rows of a table of any size, a page at a time, each page a query of its own that is soon over.

Nobody waits for whoever reads slowly, and a page may be changed before the next is read. Knows no
table.
"""

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet


def pages(
    rows: QuerySet[Any], *columns: str, by: str = "pk", at_once: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield rows with these columns and their `pk`, in the order of `by` and then of their keys.

    `by` is what an index has behind what `rows` is narrowed by, so that each page begins where the
    one before ended.
    """
    ordered = rows.order_by(by, "pk").values(*{"pk", by, *columns})
    found = list(ordered[:at_once])
    while found:
        yield found
        at, number = found[-1][by], found[-1]["pk"]
        # Not `behind or (at and …)`: databases walk one end of an index, not two.
        rest = ordered.filter(**{f"{by}__gte": at}).exclude(**{by: at, "pk__lte": number})
        found = list(rest[:at_once])
