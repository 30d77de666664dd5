"""What a JSON schema may ask for: checked before it is compiled. Knows no grammars.

The limits are those of llguidance's compiler. It follows nesting and references by recursion, so
that a long enough chain of them ends the process; the cost of objects grows with the square of
their members, and that of a long fixed string, at every token, with its length.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from inference.engine.model import UnusableInput

MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_MEMBERS: Final = 400  # of one object
MAX_STRING_BYTES: Final = 4096
MAX_LEVELS: Final = 120  # of brackets
# References that are followed, times the levels of each. On a stack of 8 MiB, what crashed had
# more than 3,300 (llguidance 1.9.1).
MAX_REFERENCED_LEVELS: Final = 1500


def check_schema(text: str) -> None:
    """Raise UnusableInput, in words for the client, unless the schema may be compiled."""
    references: set[str] = set()
    levels = 0
    for level, bracket in _brackets(_parsed(text)):
        levels = max(levels, level)
        if levels > MAX_LEVELS:
            raise UnusableInput("JSON schema: nested too deeply")
        _check_size(bracket)
        if isinstance(bracket, dict) and isinstance(bracket.get("$ref"), str):
            references.add(bracket["$ref"])
    if levels * (1 + len(references)) > MAX_REFERENCED_LEVELS:
        raise UnusableInput("JSON schema: too many references for its nesting")


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > MAX_SCHEMA_BYTES:
        raise UnusableInput(f"JSON schema: more than {MAX_SCHEMA_BYTES // 1024} KiB")
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise UnusableInput(f"JSON schema: {error}") from error
    except RecursionError as error:
        raise UnusableInput("JSON schema: nested too deeply") from error
    if not isinstance(schema, dict):
        raise UnusableInput("JSON schema: must be an object")
    return schema


def _brackets(root: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any] | list[Any]]]:
    """Return every object and array, with the number of brackets around, its own included."""
    waiting: list[tuple[int, Any]] = [(1, root)]
    while waiting:
        level, value = waiting.pop()
        if isinstance(value, dict | list):
            yield level, value
            inner = value.values() if isinstance(value, dict) else value
            waiting += ((level + 1, each) for each in inner)


def _check_size(bracket: dict[str, Any] | list[Any]) -> None:
    if isinstance(bracket, dict) and len(bracket) > MAX_MEMBERS:
        raise UnusableInput(f"JSON schema: an object with more than {MAX_MEMBERS} members")
    strings = [*bracket, *bracket.values()] if isinstance(bracket, dict) else bracket
    if any(isinstance(each, str) and len(each.encode()) > MAX_STRING_BYTES for each in strings):
        raise UnusableInput(f"JSON schema: a string of more than {MAX_STRING_BYTES} bytes")
