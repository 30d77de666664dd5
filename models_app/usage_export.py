"""A file of usage as an answer, piece by piece, as long as its caller has access.

Async. Knows no route: `/api/usage/export` and the page's download are both made of it.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final, TypeVar

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from models_app.access_watch import while_access
from models_app.ledger_export import Form, pieces
from models_app.permissions import Principal
from models_app.usage import RequestRecord, Usage
from ollamasite.http import JSON

_TYPES: Final = {Form.CSV: "text/csv; charset=utf-8", Form.JSON: JSON}
T = TypeVar("T", RequestRecord, Usage)


async def file_of(
    principal: Principal, read: Callable[[], Iterator[list[T]]], form: Form, record: type[T]
) -> StreamingHttpResponse:
    """Return a file of all records. What `read` refuses at its first page is raised."""
    pages = await sync_to_async(_begun)(read)
    document = _on_threads(pieces(pages, form, record))
    response = StreamingHttpResponse(while_access(principal, document), content_type=_TYPES[form])
    response["Content-Disposition"] = f'attachment; filename="usage.{form}"'
    response["Cache-Control"] = "no-store"
    return response


def _begun(read: Callable[[], Iterator[list[T]]]) -> Iterator[list[T]]:
    """Return all pages; the first is read, so that a refusal comes before the first byte."""
    all_of_them = read()
    first = next(all_of_them, [])

    def from_first() -> Iterator[list[T]]:
        yield first
        yield from all_of_them

    return from_first()


async def _on_threads(document: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    while piece := await sync_to_async(_next)(document):
        yield piece


def _next(document: Iterator[bytes]) -> bytes:
    return next(document, b"")
