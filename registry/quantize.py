"""Store a model's weights in a smaller type, computed by llama.cpp in a process with limits.

The process is a module of the engine, started by its name: this package does not import the
engine. It gets both files open, no environment, and can do nothing but write the result, which
is read and compared with the source before it becomes a blob. Contract/ollama.md 2.5 and 4.5.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, Final

import msgspec

from registry.blobs import BlobStore, StoredBlob
from registry.child_process import ChildFailed, Limits, run_lines
from registry.digest import Digest
from registry.disk_space import require_free_bytes
from registry.errors import InvalidCreate, QuantizeFailed
from registry.gguf import GgufFile
from registry.gguf_process import inspect, inspect_blob, open_regular
from registry.progress import NO_DIGEST, Progress, Report

_MODULE: Final = "inference.engine.llama.quantize"
# What a client may ask for: how files call it, and its number there (llama.h, llama_ftype).
_KINDS: Final[Mapping[str, tuple[str, int]]] = {
    "F32": ("F32", 0),
    "F16": ("F16", 1),
    "BF16": ("BF16", 32),
    "Q8_0": ("Q8_0", 7),
    "Q4_K_S": ("Q4_K_S", 14),
    "Q4_K_M": ("Q4_K_M", 15),
    "Q4_K": ("Q4_K_M", 15),
}
_FLOATS: Final = frozenset({"F32", "F16", "BF16"})
_INTEGERS: Final = frozenset({"I8", "I16", "I32", "I64"})
_WALL_S: Final = 4 * 3600.0
_MEMORY_BYTES: Final = 3 * 1024**3
_RESERVED_BYTES: Final = 64 * 1024**3
# Of each element of the largest tensor: as read, as float32 and as written.
_ELEMENT_BYTES: Final = 12
_OUTPUT_BYTES: Final = 64 * 1024**2
_METADATA_BYTES: Final = 1024**2
_MAX_KIND_LENGTH: Final = 40
# Each process takes gigabytes and every core; one beside it uses the cores while that one writes.
_SLOTS: Final = BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class Kind:
    """A type that a model can be quantized to."""

    name: str
    file_type: int


class _Request(msgspec.Struct, frozen=True):
    """To the process: descriptors of both files, llama.cpp's number of the wanted type."""

    source: int
    target: int
    file_type: int
    threads: int


class _Line(msgspec.Struct, frozen=True):
    """From the process: the tensor that it begins with, or its end with an error or without."""

    tensor: str = ""
    error: str = ""
    is_done: bool = False


def kinds() -> list[str]:
    """Return the types that may be asked for, each by one name."""
    return [name for name, (own, _) in _KINDS.items() if name == own]


def parse_kind(text: str) -> Kind:
    """Return the type that a client asks for, in any case. Raises InvalidCreate."""
    known = _KINDS.get(text.upper())
    if known is None:
        raise InvalidCreate(
            f"unsupported quantization type {text.upper()[:_MAX_KIND_LENGTH]} - "
            "supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
        )
    return Kind(*known)


def quantize(digest: Digest, kind: str, *, store: BlobStore, report: Report) -> StoredBlob:
    """Return the blob with the same model in another type; the same blob where it has it already.

    Raises InvalidCreate, BlobNotFound, GgufError, StorageFull, QuantizeFailed. Takes minutes.
    """
    wanted = parse_kind(kind)
    source = inspect_blob(digest, store=store)
    if source.quantization_level == wanted.name:
        return StoredBlob(digest, store.size_bytes(digest), is_new=False)
    status = f"quantizing {_source_kind(source)} model to {wanted.name}"
    largest_bytes = _largest_result_bytes(source)
    # Twice: the result is a file of its own before it is copied into the store.
    require_free_bytes(store.root, 2 * largest_bytes)
    with tempfile.NamedTemporaryFile(dir=store.root, prefix="draft-") as target:
        _run(store.path(digest), target, wanted, _Meter(source, status, report))
        report(Progress(status="verifying conversion"))
        path = Path(target.name)
        _check_result(inspect(path), source, wanted)
        return store.import_file(path)


# ------------------------------------------------------------------ before


def _source_kind(source: GgufFile) -> str:
    """Return the type that most weights have. Raises InvalidCreate."""
    elements = dict.fromkeys(_FLOATS, 0)
    for tensor in source.tensors:
        if tensor.type in elements:
            elements[tensor.type] += tensor.elements
        elif tensor.type not in _INTEGERS:
            raise InvalidCreate("quantization is only supported for F16, BF16 and F32 models")
    return max(sorted(elements), key=lambda name: elements[name])


def _largest_result_bytes(source: GgufFile) -> int:
    padding = source.alignment * len(source.tensors)
    weights = sum(max(4 * tensor.elements, tensor.size_bytes) for tensor in source.tensors)
    return source.data_offset + weights + padding + _METADATA_BYTES


def _limits(source: GgufFile, source_bytes: int, threads: int) -> Limits:
    largest = max((tensor.elements for tensor in source.tensors), default=0)
    return Limits(
        memory_bytes=_MEMORY_BYTES + _ELEMENT_BYTES * largest,
        mapped_bytes=_RESERVED_BYTES + 2 * source_bytes,
        cpu_s=int(_WALL_S) * threads,
        wall_s=_WALL_S,
        file_bytes=_largest_result_bytes(source),
        output_bytes=_OUTPUT_BYTES,
    )


# ------------------------------------------------------------------ meanwhile


class _Meter:
    """Turns the names of tensors that were begun into bytes that are done."""

    def __init__(self, source: GgufFile, status: str, report: Report) -> None:
        self.source = source
        self._sizes = {tensor.name: tensor.size_bytes for tensor in source.tensors}
        self._total = sum(self._sizes.values())
        self._status = status
        self._report = report
        self._completed = 0
        self._current = 0
        self._tell()

    def begin(self, tensor: str) -> None:
        """The process goes on to the next tensor."""
        self._completed += self._current
        self._current = self._sizes.pop(tensor, 0)
        self._tell()

    def finish(self) -> None:
        """All tensors are written."""
        self._completed = self._total
        self._tell()

    def _tell(self) -> None:
        self._report(
            Progress(
                status=self._status,
                digest=NO_DIGEST,
                total=self._total,
                completed=self._completed,
            )
        )


def _run(path: Path, target: IO[bytes], wanted: Kind, meter: _Meter) -> None:
    threads = len(os.sched_getaffinity(0))
    with _SLOTS, open_regular(path) as file:
        source_bytes = os.fstat(file.fileno()).st_size
        request = _Request(file.fileno(), target.fileno(), wanted.file_type, threads)
        lines = run_lines(
            _MODULE,
            msgspec.json.encode(request),
            descriptors=[file.fileno(), target.fileno()],
            limits=_limits(meter.source, source_bytes, threads),
        )
        try:
            ends = [end for line in lines if (end := _follow(line, meter))]
        except (ChildFailed, msgspec.DecodeError) as error:
            raise QuantizeFailed(f"quantizing the model has failed: {error}") from error
    if not ends:
        raise QuantizeFailed("quantizing the model has failed: it ended without a result")
    if ends[0].error:
        raise InvalidCreate(f"the model cannot be quantized: {ends[0].error}")
    meter.finish()


def _follow(text: bytes, meter: _Meter) -> _Line | None:
    """Report progress; return the line that is the end."""
    line = msgspec.json.decode(text, type=_Line)
    if line.is_done:
        return line
    meter.begin(line.tensor)
    return None


# ------------------------------------------------------------------ afterwards


def _check_result(result: GgufFile, source: GgufFile, wanted: Kind) -> None:
    is_same_model = result.architecture == source.architecture and {
        tensor.name: tensor.shape for tensor in result.tensors
    } == {tensor.name: tensor.shape for tensor in source.tensors}
    if not is_same_model or result.quantization_level != wanted.name:
        raise QuantizeFailed("quantizing the model has failed: the result is another model")
