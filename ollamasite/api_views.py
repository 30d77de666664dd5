"""What every API view has in common: exact methods, the body as JSON.

OPTIONS is not answered (Ollama's router does not either). Knows no route and no field.
"""

from typing import Any, Final, TypeVar

import msgspec
from adrf.views import APIView
from django.http import HttpRequest
from django.http.request import RawPostDataException

from ollamasite.bodies import decode
from ollamasite.errors import BadRequest
from ollamasite.http import read_json

T = TypeVar("T", bound=msgspec.Struct)

NATIVE_EMPTY_BODY: Final = "missing request body"
OPENAI_EMPTY_BODY: Final = "EOF"


class ReadView(APIView):  # type: ignore[misc] # adrf carries no types
    """Base of the views that only tell something."""

    http_method_names = ["get", "head"]


class CallView(APIView):  # type: ignore[misc] # adrf carries no types
    """Base of the views that take a JSON body."""

    http_method_names = ["post"]


def read_body(request: Any, cls: type[T], go_name: str, *, empty_message: str) -> T:
    """Return the JSON body of a DRF request as a `cls`. Raises InvalidBody."""
    return decode(read_json(_bytes_of(request._request), empty_message=empty_message), cls, go_name)  # noqa: SLF001 - DRF's own attribute


def _bytes_of(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RawPostDataException as error:
        # Looking for a form's CSRF token has consumed a body that calls itself multipart.
        raise BadRequest("the request body must be JSON") from error
