"""Fields behind the `?` of an API's URL. Each raises BadRequest that says what may stand there.

Knows no route.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from ollamasite.errors import BadRequest

T = TypeVar("T")

_MAX_DIGITS: Final = 18
_MAX_TEXT: Final = 200
YES_OR_NO: Final = {"": False, "0": False, "1": True}


def number(query: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    """Return a whole number from 1 to `most`."""
    text = query.get(name, "")
    if not text:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    if not is_number or not 0 < int(text) <= most:
        raise BadRequest(f'"{name}" must be a number from 1 to {most}')
    return int(text)


def line(query: Mapping[str, str], name: str) -> str:
    """Return a short text, empty where there is none."""
    text = query.get(name, "")
    if len(text) > _MAX_TEXT or "\0" in text:
        raise BadRequest(f'"{name}" must be a text of at most {_MAX_TEXT} characters')
    return text


def choice(query: Mapping[str, str], name: str, choices: Mapping[str, T]) -> T:
    """Return what one of the words stands for; the empty word is that for a missing field."""
    text = query.get(name, "")
    if text not in choices:
        raise BadRequest(f'"{name}" must be one of {", ".join(filter(None, choices))}')
    return choices[text]
