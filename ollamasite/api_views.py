"""What every API view has in common: exact methods, the body as JSON.

OPTIONS is not answered (Ollama's router does not either). Knows no route and no field.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from adrf.views import APIView
from django.http import HttpRequest
from django.http.request import RawPostDataException

from ollamasite.bodies import decode
from ollamasite.errors import BadRequest
from ollamasite.http import read_json

R = TypeVar("R")
T = TypeVar("T", bound=msgspec.Struct)

NATIVE_EMPTY_BODY: Final = "missing request body"
OPENAI_EMPTY_BODY: Final = "EOF"
_READ_AT_ONCE_BYTES: Final = 64 * 1024


class _View(APIView):  # type: ignore[misc] # adrf carries no types
    """Base of both."""

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Nothing: `Allow` is told where a method is refused, as Ollama does."""
        return {}


class ReadView(_View):
    """Base of the views that only tell something."""

    http_method_names = ["get", "head"]


class CallView(_View):
    """Base of the views that take a JSON body."""

    http_method_names = ["post"]


async def read_body(request: Any, cls: type[T], go_name: str, *, empty_message: str) -> T:
    """Return the JSON body of a DRF request as a `cls`. Raises InvalidBody.

    A large one is read on a thread: 9 MB of small objects take a second, and nobody else's stream
    shall stand still meanwhile.
    """
    body = _bytes_of(request._request)  # noqa: SLF001 - DRF's own attribute
    return await work_through(request, _decoded, body, cls, go_name, empty_message)


async def work_through(request: Any, function: Callable[..., R], *args: Any) -> R:
    """Call a function that walks through the body of a DRF request: a large one on a thread.

    Raises what it raises.
    """
    if len(_bytes_of(request._request)) <= _READ_AT_ONCE_BYTES:  # noqa: SLF001 - DRF's own
        return function(*args)
    return await asyncio.to_thread(function, *args)


def raw_body(request: Any) -> bytes:
    """Return the body of a DRF request as it came. Raises BadRequest."""
    return _bytes_of(request._request)  # noqa: SLF001 - DRF's own attribute


def _decoded(body: bytes, cls: type[T], go_name: str, empty_message: str) -> T:
    return decode(read_json(body, empty_message=empty_message), cls, go_name)


def _bytes_of(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RawPostDataException as error:
        # Looking for a form's CSRF token has consumed a body that calls itself multipart.
        raise BadRequest("the request body must be JSON") from error
