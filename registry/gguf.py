"""What a GGUF file says about its model: metadata and the list of its tensors, not their data.

A file is hostile until read: every count, length and offset is checked against a limit and the
file's size before it is used, arrays are walked without being built, and all that can be wrong
ends in a GgufError. Uploaded files are read in a process of their own: `registry.gguf_process`.
Knows nothing of the store, of manifests and of llama.cpp.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from registry.errors import GgufError
from registry.gguf_types import FILE_TYPES, SCALARS, TENSOR_TYPES, ValueType

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_MAX_KEYS: Final = 10_000
_MAX_TENSORS: Final = 20_000
_MAX_KEY_BYTES: Final = 1024
_MAX_TENSOR_NAME_BYTES: Final = 64
_MAX_STRING_BYTES: Final = 16 * 1024 * 1024
_MAX_ARRAY_ITEMS: Final = 16 * 1024 * 1024
_MAX_DIMENSIONS: Final = 4
_MAX_ELEMENTS: Final = 2**63 - 1
_MAX_ALIGNMENT: Final = 2**20
_DEFAULT_ALIGNMENT: Final = 32
_ARCHITECTURE: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_F32: Final = struct.Struct("<f")
# Rounding up to nine digits must not leave what a float32 can hold.
_MAX_FLOAT32: Final = 3.4028234e38


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's entry: its dimensions run from the fastest to the slowest.

    `offset_bytes` counts from `GgufFile.data_offset`.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    elements: int
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A file's metadata. Arrays that were not asked for are None, empty ones stay empty.

    `key_spans`: from which byte to which byte of the file a key and its value are.
    """

    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    data_offset: int
    key_spans: Mapping[str, tuple[int, int]]

    @property
    def architecture(self) -> str:
        """`llama`, `bert`, …; empty in the later parts of a split model, which do not say."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def alignment(self) -> int:
        """What the offsets of tensors are multiples of, in bytes."""
        return int(self.metadata.get("general.alignment", _DEFAULT_ALIGNMENT))

    @property
    def split_count(self) -> int:
        """Of how many files the model consists; 1 where it is not split."""
        return self._count("split.count") or 1

    @property
    def split_number(self) -> int:
        """Which of these files this is, from 0."""
        return self._count("split.no") or 0

    @property
    def parameter_count(self) -> int:
        """The number of weights."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def quantization_level(self) -> str:
        """`Q4_1`, or `unknown` where the file does not say."""
        return FILE_TYPES.get(self._count("general.file_type"), "unknown")

    @property
    def context_length(self) -> int | None:
        """The window the model was trained with, in tokens."""
        return self._count(f"{self.architecture}.context_length")

    @property
    def embedding_length(self) -> int | None:
        """The width of the model's hidden state."""
        return self._count(f"{self.architecture}.embedding_length")

    def to_json(self) -> dict[str, Any]:
        """Return what is kept beside the blob: JSON values only."""
        return {
            "architecture": self.architecture,
            "parameter_count": self.parameter_count,
            "parameter_size": format_parameter_count(self.parameter_count),
            "quantization_level": self.quantization_level,
            "context_length": self.context_length,
            "embedding_length": self.embedding_length,
            "metadata": dict(self.metadata),
            "tensors": [
                {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)}
                for tensor in self.tensors
            ],
        }

    def _count(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if type(value) is int and value >= 0 else None


def read_gguf(path: Path, *, with_arrays: bool = False) -> GgufFile:
    """Read a file's metadata; arrays are built only when asked for. Raises GgufError."""
    with path.open("rb") as file:
        return read_open_gguf(file, with_arrays=with_arrays)


def read_open_gguf(file: BinaryIO, *, with_arrays: bool = False) -> GgufFile:
    """Read the metadata of a file that is open at its start. Raises GgufError."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise GgufError
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Reader(data, with_arrays=with_arrays).read()


def starts_like_gguf(file: BinaryIO) -> bool:
    """Whether a file that is open at its start begins as GGUF files do."""
    return file.read(len(_MAGIC)) == _MAGIC


def format_parameter_count(count: int) -> str:
    """Return a number of weights as Ollama prints it: `134.52M`, `7.2B`, `9K`."""
    for unit, size, digits in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 1000, 0)):
        if count >= size:
            return f"{count / size:.{0 if count % size == 0 else digits}f}{unit}"
    return str(count)


class _Reader:
    """Walks a mapped file from its start; `_offset` never passes its end."""

    def __init__(self, data: mmap.mmap, *, with_arrays: bool) -> None:
        self._data = data
        self._size = len(data)
        self._offset = len(_MAGIC)
        self._with_arrays = with_arrays
        self._array_items_left = _MAX_ARRAY_ITEMS

    def read(self) -> GgufFile:
        version = self._version()
        tensor_count = self._bounded(_MAX_TENSORS, "tensors")
        key_count = self._bounded(_MAX_KEYS, "metadata keys")
        metadata, key_spans = self._metadata(key_count)
        _check_architecture(metadata)
        alignment = _alignment(metadata)
        tensors = self._tensors(tensor_count)
        data_offset = -(-self._offset // alignment) * alignment
        _check_places(tensors, alignment, self._size - data_offset)
        return GgufFile(version, metadata, tensors, data_offset, key_spans)

    # ------------------------------------------------------------ header and metadata

    def _version(self) -> int:
        version = self._u32()
        if version in _VERSIONS:
            return version
        if version >> 16:
            raise GgufError("big-endian GGUF files are not supported")
        raise GgufError(f"GGUF version {version} is not supported, only 2 and 3")

    def _metadata(self, count: int) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
        metadata: dict[str, Any] = {}
        spans: dict[str, tuple[int, int]] = {}
        for _ in range(count):
            start = self._offset
            key = self._name(_MAX_KEY_BYTES, "metadata key")
            if key in metadata:
                raise GgufError(f"the GGUF file has the key {key!r} twice")
            metadata[key] = self._value(self._u32())
            spans[key] = (start, self._offset)
        return metadata, spans

    def _value(self, value_type: int) -> Any:
        if value_type == ValueType.STRING:
            return self._string()
        if value_type == ValueType.ARRAY:
            return self._array()
        return self._scalars(value_type, 1)[0]

    def _array(self) -> list[Any] | None:
        item_type = self._u32()
        count = self._bounded(self._array_items_left, "array items")
        self._array_items_left -= count
        if item_type == ValueType.ARRAY:
            raise GgufError("the GGUF file has an array of arrays")
        if item_type == ValueType.STRING:
            return self._strings(count)
        if item_type not in SCALARS:
            raise GgufError(f"the GGUF file has a value of the unknown type {item_type}")
        if self._with_arrays or not count:
            return self._scalars(item_type, count)
        self._skip(SCALARS[item_type].size * count)
        return None

    def _scalars(self, value_type: int, count: int) -> list[Any]:
        if value_type not in SCALARS:
            raise GgufError(f"the GGUF file has a value of the unknown type {value_type}")
        scalar = SCALARS[value_type]
        start = self._skip(scalar.size * count)
        values = struct.unpack_from(f"<{count}{scalar.code}", self._data, start)
        if value_type == ValueType.BOOL:
            return [_to_bool(value) for value in values]
        if value_type == ValueType.FLOAT32:
            return [_shortest_float32(value) for value in values]
        return [value if _is_finite(value) else None for value in values]

    def _strings(self, count: int) -> list[str] | None:
        if self._with_arrays or not count:
            return [self._string() for _ in range(count)]
        # The hot loop: vocabularies have hundreds of thousands of items.
        data, offset, last = self._data, self._offset, self._size - _U64.size
        for _ in range(count):
            if offset > last:
                raise _cut_short()
            offset += _U64.size + _U64.unpack_from(data, offset)[0]
        self._skip(offset - self._offset)
        return None

    # ------------------------------------------------------------ tensors

    def _tensors(self, count: int) -> tuple[Tensor, ...]:
        tensors: dict[str, Tensor] = {}
        for _ in range(count):
            tensor = self._tensor()
            if tensor.name in tensors:
                raise GgufError(f"the GGUF file has the tensor {tensor.name!r} twice")
            tensors[tensor.name] = tensor
        return tuple(tensors.values())

    def _tensor(self) -> Tensor:
        name = self._name(_MAX_TENSOR_NAME_BYTES, "tensor name")
        shape = self._shape(name)
        elements = math.prod(shape)
        if elements > _MAX_ELEMENTS:
            raise GgufError(f"tensor {name!r} is too large")
        type_id = self._u32()
        tensor_type = TENSOR_TYPES.get(type_id)
        if tensor_type is None:
            raise GgufError(f"tensor {name!r} has the unknown type {type_id}")
        if shape[0] % tensor_type.block_elements:
            raise GgufError(f"tensor {name!r} has rows that are no multiple of its block size")
        offset = self._u64()
        size_bytes = elements // tensor_type.block_elements * tensor_type.block_bytes
        return Tensor(name, tensor_type.name, shape, elements, offset, size_bytes)

    def _shape(self, name: str) -> tuple[int, ...]:
        dimensions = self._u32()
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise GgufError(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self._u64() for _ in range(dimensions))
        if 0 in shape:
            raise GgufError(f"tensor {name!r} is empty")
        return shape

    # ------------------------------------------------------------ primitives

    def _skip(self, length: int) -> int:
        """Move on and return where one was."""
        start = self._offset
        if length > self._size - start:
            raise _cut_short()
        self._offset = start + length
        return start

    def _u32(self) -> int:
        value: int = _U32.unpack_from(self._data, self._skip(_U32.size))[0]
        return value

    def _u64(self) -> int:
        value: int = _U64.unpack_from(self._data, self._skip(_U64.size))[0]
        return value

    def _bounded(self, limit: int, what: str) -> int:
        count = self._u64()
        if count > limit:
            raise GgufError(f"the GGUF file claims {count} {what}, more than {limit}")
        return count

    def _string(self) -> str:
        length = self._bounded(_MAX_STRING_BYTES, "bytes in one string")
        start = self._skip(length)
        # Databases refuse NUL in JSON text, and broken UTF-8 is common in old vocabularies.
        return self._data[start : start + length].decode("utf-8", "replace").replace("\0", "�")

    def _name(self, limit: int, what: str) -> str:
        length = self._bounded(limit, f"bytes in a {what}")
        start = self._skip(length)
        try:
            name = self._data[start : start + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise GgufError(f"the GGUF file has a {what} that is not UTF-8") from error
        if not name.isprintable() or not name:
            raise GgufError(f"the GGUF file has the unusable {what} {name!r}")
        return name


def _cut_short() -> GgufError:
    return GgufError("the GGUF file is cut short")


def _alignment(metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    is_power_of_two = type(alignment) is int and alignment > 0 and not alignment & (alignment - 1)
    if not is_power_of_two or alignment > _MAX_ALIGNMENT:
        raise GgufError("the GGUF file's alignment is no power of two")
    return int(alignment)


def _check_architecture(metadata: Mapping[str, Any]) -> None:
    architecture = metadata.get("general.architecture")
    if architecture is None and _is_later_part(metadata):
        return
    if not isinstance(architecture, str) or not _ARCHITECTURE.fullmatch(architecture):
        raise GgufError("the GGUF file does not name its architecture")


def _is_later_part(metadata: Mapping[str, Any]) -> bool:
    number, count = metadata.get("split.no"), metadata.get("split.count")
    return type(number) is int and type(count) is int and 0 < number < count


def _check_places(tensors: tuple[Tensor, ...], alignment: int, data_bytes: int) -> None:
    """Refuse tensors that are not where they may be: aligned, in the file, one after another."""
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset_bytes):
        if tensor.offset_bytes % alignment:
            raise GgufError(f"tensor {tensor.name!r} does not begin on a multiple of {alignment}")
        if tensor.offset_bytes < end:
            raise GgufError(f"tensor {tensor.name!r} overlaps another")
        end = tensor.offset_bytes + tensor.size_bytes
        if end > data_bytes:
            raise _cut_short()


def _to_bool(value: int) -> bool:
    if value > 1:
        raise GgufError("the GGUF file has a truth value that is neither 0 nor 1")
    return value == 1


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _shortest_float32(value: float) -> float | None:
    """Return the shortest decimal that is the same float32 (`1e-05`, not `9.99999974e-06`)."""
    if not math.isfinite(value):
        return None
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) < _MAX_FLOAT32 and _F32.unpack(_F32.pack(short))[0] == value:
            return short
    return value
