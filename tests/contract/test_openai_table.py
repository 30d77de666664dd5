"""The `/v1` part of docs/compatibility.md is true: it names each field of the SDKs, rightly marked.

Which fields work, are noted and are refused is shown where each route is tested; this holds the
document against the same tables. Knows no site.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from openai.types.embedding_create_params import EmbeddingCreateParams

from inference.api.anthropic import schemas as anthropic_schemas
from tests.contract.test_openai_boxes import CASES
from tests.inference.api import (
    test_anthropic_schemas,
    test_completions_schemas,
    test_openai_field_table,
    test_responses_fields,
)

_DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
_HEADING: Final = re.compile(r"### `POST (/v1/[\w/]+)`")
_ROW: Final = re.compile(r"\| `(\w+)` \| (\S+) \|.*")
_SERVED: Final = {"✓", "≈", "noted"}
# Ollama's own, through `extra_body`.
_OURS: Final = {"options", "keep_alive"}


def _documented() -> Mapping[str, Mapping[str, str]]:
    tables: dict[str, dict[str, str]] = {}
    route = ""
    for line in _DOCUMENT.read_text().splitlines():
        if line.startswith("#"):
            found = _HEADING.fullmatch(line)
            route = found[1] if found else ""
        elif route and (row := _ROW.fullmatch(line)):
            tables.setdefault(route, {})[row[1]] = row[2]
    return tables


TABLES: Final = _documented()
_chat: Any = test_openai_field_table
_responses: Any = test_responses_fields
# Route → the fields that are taken, and those that are refused.
FIELDS: Final[Mapping[str, tuple[set[str], set[str]]]] = {
    "/v1/chat/completions": (
        {*_chat.WORKS, *_chat.NOTED, "stream", "reasoning", "think", *_OURS},
        {*_chat.REFUSED},
    ),
    "/v1/completions": (
        {
            *test_completions_schemas.WORKS,
            *test_completions_schemas.TAKEN,
            *("raw", "response_format", "think"),
            *_OURS,
        },
        set(),
    ),
    "/v1/embeddings": ({*EmbeddingCreateParams.__annotations__, "truncate", *_OURS}, set()),
    "/v1/responses": (
        {*_responses.WORKS, *_responses.NOTED, "think", *_OURS},
        {*_responses.REFUSED},
    ),
    "/v1/messages": (
        {*test_anthropic_schemas.SDK_FIELDS, *_OURS} - anthropic_schemas.REFUSED,
        {*anthropic_schemas.REFUSED},
    ),
}


@pytest.mark.parametrize("route", FIELDS)
def test_document_names_every_field_that_is_taken(route: str) -> None:
    named = {name for name, mark in TABLES[route].items() if mark in _SERVED}

    assert named == FIELDS[route][0]


@pytest.mark.parametrize("route", FIELDS)
def test_document_names_every_field_that_is_refused(route: str) -> None:
    named = {name for name, mark in TABLES[route].items() if mark not in _SERVED}

    assert named == FIELDS[route][1]


def test_chat_fields_that_change_nothing_are_marked_as_noted() -> None:
    marked = {name for name, mark in TABLES["/v1/chat/completions"].items() if mark == "noted"}

    assert marked == set(_chat.NOTED) - {"stream_options"}


def test_every_box_is_ticked_and_sent() -> None:
    ticked: set[tuple[str, str]] = set()
    route = ""
    for line in _DOCUMENT.read_text().splitlines():
        if found := re.fullmatch(r"\*\*`(/v1/\S+)`\*\*", line):
            route = found[1]
        elif line.startswith("- ["):
            assert line.startswith("- [x] "), line
            ticked.add((route, line.removeprefix("- [x] ")))

    assert set(CASES) <= ticked
    # These are sent under another name, or where a site must allow them.
    assert {name for _, name in ticked - set(CASES)} == {
        *("`messages`", "Image `content`", "Image URL", "`tools`", "`input`"),
    }
