"""Spoilt copies of a GGUF file that our reader accepts: what the rest of the site has to bear.

Read in this process, which is cheap; that the reader bears all of them is shown in its own tests.
"""

from collections.abc import Iterator
from pathlib import Path

from registry.errors import GgufError
from registry.gguf import read_gguf
from tests.registry.gguf_mutations import mutate


def readable_copies(data: bytes, draft: Path, *, head_bytes: int) -> Iterator[bytes]:
    """Yield those of 240 spoilt copies that can be read; `draft` is the path of each in turn."""
    for seed in range(240):
        copy = mutate(data, seed, head_bytes=head_bytes)
        draft.write_bytes(copy)
        try:
            read_gguf(draft)
        except GgufError:
            continue
        yield copy
