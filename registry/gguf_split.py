"""One GGUF file out of the parts that a large model is split into.

The first part has all metadata, the others only say which part they are (llama.cpp's
`gguf-split`, keys `split.no`, `split.count`, `split.tensors.count`). Works on what
`registry.gguf` has read; knows nothing of the store.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from registry.errors import GgufError
from registry.gguf import GgufFile, Tensor
from registry.gguf_types import TENSOR_TYPES

MAX_PARTS: Final = 512
_COPY_BYTES: Final = 4 * 1024 * 1024
_SPLIT_KEYS: Final = frozenset({"split.no", "split.count", "split.tensors.count"})
_TYPE_IDS: Final = {tensor_type.name: number for number, tensor_type in TENSOR_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """One part and its file, open for reading; who opened it closes it."""

    gguf: GgufFile
    file: BinaryIO


def check_parts(parts: Sequence[GgufFile]) -> None:
    """Refuse parts that are not all parts of one model, each once. Raises GgufError."""
    count = parts[0].split_count
    if count > MAX_PARTS:
        raise GgufError(f"the model is split into {count} parts, more than {MAX_PARTS}")
    if any(part.split_count != count for part in parts):
        raise GgufError("the GGUF files are parts of different models")
    numbers = [part.split_number for part in parts]
    for number in numbers:
        if numbers.count(number) > 1:
            raise GgufError(f"part {number + 1} of {count} of the split GGUF file is there twice")
    missing = sorted(set(range(count)) - set(numbers))
    if missing:
        raise GgufError(f"part {missing[0] + 1} of {count} of the split GGUF file is missing")
    if len(parts) != count:
        raise GgufError(f"the GGUF file is split into {count} parts, not {len(parts)}")
    _check_tensors(parts)


def joined_size_bytes(parts: Sequence[GgufFile]) -> int:
    """Return about how large the joined file is: never less than it will be."""
    first = min(parts, key=lambda part: part.split_number)
    return sum(
        part.data_offset + sum(_padded(t.size_bytes, first.alignment) for t in part.tensors)
        for part in parts
    )


def joined(parts: Sequence[Part]) -> Iterator[bytes]:
    """Yield the joined file in pieces of at most a few MiB. Raises GgufError.

    The parts were checked by `check_parts`.
    """
    ordered = sorted(parts, key=lambda part: part.gguf.split_number)
    alignment = ordered[0].gguf.alignment
    written = 0
    for piece in _head(ordered, alignment):
        written += len(piece)
        yield piece
    yield bytes(_padded(written, alignment) - written)
    for part in ordered:
        for tensor in part.gguf.tensors:
            start = part.gguf.data_offset + tensor.offset_bytes
            yield from _span(part.file, start, start + tensor.size_bytes)
            yield bytes(_padded(tensor.size_bytes, alignment) - tensor.size_bytes)


def _check_tensors(parts: Sequence[GgufFile]) -> None:
    names = [tensor.name for part in parts for tensor in part.tensors]
    if len(set(names)) != len(names):
        raise GgufError("the parts of the split GGUF file have a tensor twice")
    for part in parts:
        announced = part.metadata.get("split.tensors.count")
        if announced is not None and announced != len(names):
            raise GgufError(
                f"the parts of the split GGUF file have {len(names)} tensors, not {announced}"
            )


def _head(parts: Sequence[Part], alignment: int) -> Iterator[bytes]:
    """Yield all that stands before the data: counts, metadata, the list of tensors."""
    first = parts[0]
    spans = [span for key, span in first.gguf.key_spans.items() if key not in _SPLIT_KEYS]
    tensors = [tensor for part in parts for tensor in part.gguf.tensors]
    yield struct.pack("<4sIQQ", b"GGUF", first.gguf.version, len(tensors), len(spans))
    for start, end in spans:
        yield from _span(first.file, start, end)
    offset = 0
    for tensor in tensors:
        yield _entry(tensor, offset)
        offset += _padded(tensor.size_bytes, alignment)


def _entry(tensor: Tensor, offset: int) -> bytes:
    name = tensor.name.encode()
    dimensions = len(tensor.shape)
    return b"".join(
        (
            struct.pack("<Q", len(name)),
            name,
            struct.pack(f"<I{dimensions}Q", dimensions, *tensor.shape),
            struct.pack("<IQ", _TYPE_IDS[tensor.type], offset),
        )
    )


def _span(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    left = end - start
    while left:
        data = file.read(min(left, _COPY_BYTES))
        if not data:
            raise GgufError("the GGUF file is cut short")
        left -= len(data)
        yield data


def _padded(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment
