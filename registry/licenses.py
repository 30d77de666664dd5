"""What a licence is called, in the few words that a list has room for.

A name for people and no legal finding: the text itself is one click away. Knows no row, no HTTP.
"""

import re
from functools import lru_cache
from typing import Final

from registry.blobs import blob_store
from registry.digest import Digest
from registry.errors import BlobNotFound

_READ_BYTES: Final = 4096
_SHOWN_CHARS: Final = 32
_CACHED: Final = 4096
# The first that is found in the beginning of a text names it.
_KNOWN: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"apache[ -](license|2)", "Apache 2.0"),
        (r"\bMIT\b", "MIT"),
        (r"llama[ -]?4|llama 4 community", "Llama 4"),
        (r"llama[ -]?3\.3", "Llama 3.3"),
        (r"llama[ -]?3\.2", "Llama 3.2"),
        (r"llama[ -]?3\.1", "Llama 3.1"),
        (r"(meta )?llama[ -]?3", "Llama 3"),
        (r"llama[ -]?2", "Llama 2"),
        (r"gemma", "Gemma"),
        (r"tongyi qianwen|qwen", "Qwen"),
        (r"mistral.{0,40}research|MRL-", "Mistral Research"),
        (r"(?:rail|responsible ai)", "RAIL"),
        (r"affero|agpl", "AGPL"),
        (r"lesser general public|lgpl", "LGPL"),
        (r"gnu general public|\bgpl", "GPL"),
        (r"mozilla public|mpl-", "MPL 2.0"),
        (r"bsd|redistribution and use in source", "BSD"),
        (r"cc[ -]by[ -]nc|attribution-noncommercial", "CC BY-NC"),
        (r"cc[ -]by[ -]sa|attribution-sharealike", "CC BY-SA"),
        (r"cc[ -]by|creative commons attribution", "CC BY"),
        (r"cc0|public domain|unlicense", "Public domain"),
        (r"permission is hereby granted, free of charge", "MIT"),
    )
)
_BEGINNING_CHARS: Final = 600


def short_name(text: str) -> str:
    """Return what a licence is called, from its text or from its mark (`apache-2.0`)."""
    beginning = text[:_BEGINNING_CHARS]
    for pattern, name in _KNOWN:
        if pattern.search(beginning):
            return name
    line = next((line.strip() for line in beginning.splitlines() if line.strip()), "")
    return line if len(line) <= _SHOWN_CHARS else f"{line[: _SHOWN_CHARS - 1].rstrip()}…"


def name_of_file(digest: str) -> str:
    """Return what the licence in a file of the store is called (64 hex); empty: it is not there."""
    try:
        return _name_of_stored(digest)
    except (BlobNotFound, OSError):
        return ""


@lru_cache(_CACHED)
def _name_of_stored(digest: str) -> str:
    # A file that is named by its hash never changes; that one is missing is not remembered.
    with blob_store().open(Digest(digest)) as file:
        return short_name(file.read(_READ_BYTES).decode("utf-8", "replace"))
