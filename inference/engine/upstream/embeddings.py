"""An engine's vectors → events. Knows no HTTP."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from inference.engine.upstream.chunks import EmbeddingsAnswer, embeddings_decoder
from inference.engine.upstream.failures import failed
from inference.messages import Embed, Embedded, UpstreamRef

INPUTS_AT_ONCE: Final = 64
_MOST_WIDTH: Final = 65_536


def read_vectors(
    request: Embed, upstream: UpstreamRef, first: int, count: int, body: bytes
) -> tuple[Embedded, int]:
    """Return the vectors of a run of inputs, and how many tokens these had. Raises UpstreamError.

    Without a count of the engine: four bytes a token.
    """
    try:
        answer = embeddings_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise failed(upstream, "answered with something else than vectors") from error
    rows = _in_order(answer, count)
    widths = {len(row) for row in rows}
    if len(rows) != count or len(widths) != 1 or not 0 < widths.pop() <= _MOST_WIDTH:
        raise failed(upstream, "answered with other vectors than were asked for")
    vectors = tuple(_row(row, is_normal=request.normalize) for row in rows)
    told = (answer.usage.prompt_tokens or 0) if answer.usage else 0
    tokens = told or sum(map(_tokens_of, request.inputs[first : first + count]))
    return Embedded(request_id=request.request_id, first=first, vectors=vectors), tokens


def runs(inputs: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Yield the first index and the length of each run of inputs that is asked for at once."""
    for first in range(0, len(inputs), INPUTS_AT_ONCE):
        yield first, min(INPUTS_AT_ONCE, len(inputs) - first)


def _in_order(answer: EmbeddingsAnswer, count: int) -> list[list[float]]:
    found = {one.index: one.embedding for one in answer.data}
    return [found[index] for index in range(count) if index in found]


def _row(values: list[float], *, is_normal: bool) -> bytes:
    row = np.asarray(values, dtype=np.float64)
    length = float(np.linalg.norm(row))
    if is_normal and length > 0 and math.isfinite(length):
        row = row / length
    return row.astype("<f4").tobytes()


def _tokens_of(value: str | tuple[int, ...]) -> int:
    return len(value) if isinstance(value, tuple) else -(-len(value.encode()) // 4)
