"""Rows and sums of the ledger as CSV or JSON, in pieces.

CSV goes into spreadsheets, which take a text that begins with `=` for a formula; names are chosen
by people, so such a text gets an apostrophe in front (OWASP, "CSV Injection"). Knows no database
and no HTTP.
"""

import csv
import dataclasses
import enum
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from models_app.usage import RequestRecord, Usage
from ollamasite.http import encode_json

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class Form(enum.StrEnum):
    """What an export is written in."""

    CSV = "csv"
    JSON = "json"


Exported = RequestRecord | Usage


def pieces(
    pages: Iterable[Sequence[Exported]], form: Form, columns: type[Exported]
) -> Iterator[bytes]:
    """Yield the pieces of a document with all records, none of them empty.

    CSV: a heading and a line for each. JSON: one array, a record on each line.
    """
    names = tuple(field.name for field in dataclasses.fields(columns))
    yield from _csv(pages, names) if form is Form.CSV else _json(pages, names)


def _csv(pages: Iterable[Sequence[Exported]], names: tuple[str, ...]) -> Iterator[bytes]:
    yield _lines([names])
    for page in pages:
        if page:
            yield _lines([[_cell(getattr(record, name)) for name in names] for record in page])


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    match value:
        case None:
            return ""
        case datetime():
            return _time(value)
        case dict():
            return json.dumps(value, sort_keys=True)
        case str() if value.startswith(_FORMULA_STARTS):
            return f"'{value}"
    return value


def _json(pages: Iterable[Sequence[Exported]], names: tuple[str, ...]) -> Iterator[bytes]:
    before = b"[\n"
    for page in pages:
        lines = [encode_json(_object(record, names)) for record in page]
        if lines:
            yield before + b",\n".join(lines)
            before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def _object(record: Exported, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in names}
    return {
        name: _time(value) if isinstance(value, datetime) else value
        for name, value in values.items()
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
