"""JSON in and out the way Go's encoder and decoder do it (contract/ollama.md 1.0, 2.2).

Clients compare error texts and bytes with a real Ollama, so bodies are decoded as leniently, and
encoded as Go would. Knows no route, no model and no error body.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NoReturn

import msgspec
from django.http import HttpRequest, HttpResponse
from rest_framework.negotiation import DefaultContentNegotiation

from ollamasite import json_errors
from ollamasite.errors import InvalidBody

JSON_UTF8: Final = "application/json; charset=utf-8"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
EVENT_STREAM: Final = "text/event-stream"
PLAIN: Final = "text/plain"

_encoder = msgspec.json.Encoder()
# These characters only occur inside JSON strings, so replacing bytes is safe. Go escapes them.
_GO_ESCAPES: Final = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
# Far more than any schema or conversation has, and safe for all that walks values by recursion.
MAX_JSON_DEPTH: Final = 256


def encode_json(value: Any) -> bytes:
    """Return compact JSON with Go's escapes; structs keep their field order."""
    body = _encoder.encode(value)
    for plain, escaped in _GO_ESCAPES:
        if plain in body:
            body = body.replace(plain, escaped)
    return body


def json_response(
    value: Any,
    *,
    status: int = 200,
    content_type: str = JSON_UTF8,
    newline: bool = False,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """Return one JSON object; `/v1` ends it with a newline, `/api` does not."""
    body = encode_json(value) + (b"\n" if newline else b"")
    return HttpResponse(body, status=status, content_type=content_type, headers=headers)


def read_json(body: bytes, *, empty_message: str) -> Any:
    """Return the first JSON value of a body; whatever follows it is ignored.

    Raises InvalidBody with the text of Go's decoder, or `empty_message` for a body of blanks.
    """
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n\ufeff")
    if not text:
        raise InvalidBody(empty_message)
    return _read(text, lambda: _decoder.raw_decode(text)[0])


def read_json_text(text: str) -> Any:
    """Return the one JSON value that a string of a body is, read as strictly as the body.

    Raises InvalidBody.
    """
    return _read(text, lambda: _decoder.decode(text))


def _read(text: str, decode: Callable[[], Any]) -> Any:
    try:
        value = decode()
    except json.JSONDecodeError as error:
        raise InvalidBody(json_errors.go_message(error)) from error
    except RecursionError as error:
        raise InvalidBody(json_errors.TOO_DEEP) from error
    if _is_deeper_than(MAX_JSON_DEPTH, value):
        raise InvalidBody(json_errors.TOO_DEEP)
    if _SURROGATE_ESCAPE.search(text):
        value = _without_lone_surrogates(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    if name.startswith("-"):
        raise InvalidBody(json_errors.invalid(name, 1, "in numeric literal"))
    raise InvalidBody(json_errors.invalid(name, 0, "looking for beginning of value"))


def _parse_float(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise InvalidBody(f"json: cannot unmarshal number {text} into Go value of type float64")
    return number


def _parse_int(text: str) -> int | float:
    # Go holds numbers of unknown type as float64; a digit bomb must not reach Python's big ints.
    return int(text) if len(text) <= 19 else _parse_float(text)  # noqa: PLR2004 - digits of 2^63


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of equal keys the last counts, also beside other spellings of its name."""
    whole = dict(pairs)
    if len(whole) == len(pairs):
        return whole
    in_order: dict[str, Any] = {}
    for key, value in pairs:
        in_order.pop(key, None)
        in_order[key] = value
    return in_order


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_refuse_constant,
    parse_float=_parse_float,
    parse_int=_parse_int,
)


def _is_deeper_than(limit: int, value: Any) -> bool:
    boxes = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        if not boxes:
            return False
        boxes = [
            item
            for box in boxes
            for item in (box.values() if isinstance(box, dict) else box)
            if isinstance(item, (dict, list))
        ]
    return bool(boxes)


def _without_lone_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            _without_lone_surrogates(key): _without_lone_surrogates(item)
            for key, item in value.items()
        }
    return value


class IgnoreAccept(DefaultContentNegotiation):
    """Answer in the route's own type whatever Accept says, as Ollama does."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        """Return the first renderer."""
        del request, format_suffix
        return renderers[0], renderers[0].media_type


def format_time(time_ns: int, zone: tzinfo = UTC) -> str:
    """Return RFC 3339 as Go prints it: up to 9 fraction digits, no trailing zeros, `Z` for UTC."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, tz=zone)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    offset = moment.isoformat()[-6:] if moment.utcoffset() else "Z"
    # A list has a thousand of them, and strftime takes three times as long.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}{fraction}{offset}"


def is_page_request(request: HttpRequest) -> bool:
    """Whether a browser asks for a page to show, by its Accept header."""
    return "text/html" in request.headers.get("Accept", "")
