"""Quantizing: what may be asked for, real results of llama.cpp, and every way it can fail."""

import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest

import inference.engine.llama.quantize as child
from inference.engine.llama.model import LlamaModel, open_model
from inference.engine.runner_messages import OpenModel
from inference.messages import RunnerOptions
from registry import quantize as quantizing
from registry.blobs import BlobStore
from registry.child_process import Limits
from registry.digest import Digest
from registry.errors import (
    BlobNotFound,
    GgufError,
    InvalidCreate,
    QuantizeFailed,
    StorageFull,
)
from registry.gguf_process import inspect_blob
from registry.progress import NO_DIGEST, Progress, ignore
from registry.quantize import parse_kind, quantize
from tests.gguf_files import write_tiny_model
from tests.registry.spoilt_files import readable_copies


@pytest.fixture(scope="session")
def half_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with F16 weights in whole blocks of K quants."""
    path = tmp_path_factory.mktemp("gguf") / "half.gguf"
    return write_tiny_model(path, width=256, weights=np.float16)


@pytest.fixture
def half(store: BlobStore, half_gguf: Path) -> Digest:
    return store.import_file(half_gguf).digest


def starting(monkeypatch: pytest.MonkeyPatch, module: str, **limits: Any) -> None:
    """Let another module be the process, or one with other limits."""
    monkeypatch.setattr(quantizing, "_MODULE", module)
    real = quantizing._limits

    def changed(*arguments: Any) -> Limits:
        return replace(real(*arguments), **limits)

    monkeypatch.setattr(quantizing, "_limits", changed)


def write_quantized(path: Path) -> Path:
    """Write a model that claims to be F16 and has a Q4_0 tensor."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    blocks = np.zeros((2, 18), dtype=np.uint8)
    writer.add_tensor("t", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# ------------------------------------------------------------------ what may be asked for


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("F32", "F32"),
        ("f16", "F16"),
        ("BF16", "BF16"),
        ("q8_0", "Q8_0"),
        ("Q4_K_S", "Q4_K_S"),
        ("q4_K_m", "Q4_K_M"),
        ("Q4_K", "Q4_K_M"),
    ],
)
def test_types_are_known_in_any_case(asked: str, meant: str) -> None:
    assert parse_kind(asked).name == meant


def test_unknown_type_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidCreate) as refusal:
        parse_kind("q4_0")
    assert refusal.value.message == (
        "unsupported quantization type Q4_0 - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
    )


def test_very_long_type_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidCreate) as refusal:
        parse_kind("x" * 10_000)
    assert len(refusal.value.message) < 200


def test_model_that_has_the_type_already_stays_as_it_is(store: BlobStore, half: Digest) -> None:
    blob = quantize(half, "f16", store=store, report=ignore)
    assert (blob.digest, blob.is_new) == (half, False)


def test_quantized_model_is_no_source(store: BlobStore, tmp_path: Path) -> None:
    """Whatever the file says of itself: its tensors count."""
    digest = store.import_file(write_quantized(tmp_path / "m.gguf")).digest
    with pytest.raises(InvalidCreate) as refusal:
        quantize(digest, "Q8_0", store=store, report=ignore)
    assert refusal.value.message == "quantization is only supported for F16, BF16 and F32 models"


def test_missing_blob_is_named(store: BlobStore) -> None:
    with pytest.raises(BlobNotFound):
        quantize(Digest.of(b"nothing"), "Q8_0", store=store, report=ignore)


def test_tensor_that_reaches_beyond_the_file_never_gets_to_llama_cpp(
    store: BlobStore, half_gguf: Path
) -> None:
    """CVE-2026-7482: what lies behind the file in memory would end up in the result."""
    digest = store.write_bytes(half_gguf.read_bytes()[:-64]).digest
    with pytest.raises(GgufError, match="the GGUF file is cut short"):
        quantize(digest, "Q8_0", store=store, report=ignore)


def test_result_that_would_fill_the_disk_is_refused(
    store: BlobStore, half: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.disk_space._LEFT_FREE_BYTES", 2**62)
    with pytest.raises(StorageFull):
        quantize(half, "Q8_0", store=store, report=ignore)


# ------------------------------------------------------------------ a process that fails


@pytest.mark.parametrize(
    ("module", "limits", "message"),
    [
        ("registry.nothing", {}, "quantizing the model has failed: "),
        ("registry.gguf", {}, "it ended without a result"),
        ("json.tool", {"wall_s": 0.001}, "it takes longer than 0 s"),
        ("json.tool", {}, "quantizing the model has failed: Input data was truncated"),
    ],
)
def test_process_that_fails_is_an_error_and_leaves_nothing(
    store: BlobStore,
    half: Digest,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    limits: dict[str, Any],
    message: str,
) -> None:
    starting(monkeypatch, module, **limits)
    before = sorted(store.root.iterdir())
    with pytest.raises(QuantizeFailed, match=message):
        quantize(half, "Q8_0", store=store, report=ignore)
    assert sorted(store.root.iterdir()) == before


def test_both_sides_mean_the_same_messages() -> None:
    request = quantizing._Request(source=3, target=4, file_type=15, threads=2)
    assert msgspec.to_builtins(
        msgspec.json.decode(msgspec.json.encode(request), type=child.Request)
    ) == msgspec.to_builtins(request)
    for line in (child.Line(tensor="t"), child.Line(error="e", is_done=True)):
        received = msgspec.json.decode(msgspec.json.encode(line), type=quantizing._Line)
        assert (received.tensor, received.error, received.is_done) == (
            line.tensor,
            line.error,
            line.is_done,
        )


def test_process_ends_when_nobody_listens_any_longer() -> None:
    # As when llama.cpp calls back: whatever is raised there is lost.
    code = (
        "import contextlib, os\n"
        f"from {child.__name__} import Line, Log\n"
        "reader, writer = os.pipe()\n"
        "os.close(reader)\n"
        "with contextlib.suppress(OSError):\n"
        "    Log(os.fdopen(writer, 'wb', 0)).tell(Line(tensor='a'))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == 1


def test_process_is_a_module_that_exists() -> None:
    assert child.__name__ == quantizing._MODULE


# ------------------------------------------------------------------ llama.cpp


@pytest.mark.slow
@pytest.mark.beside
@pytest.mark.parametrize("kind", ["F32", "BF16", "Q8_0", "Q4_K_S", "Q4_K_M"])
def test_result_is_the_same_model_in_the_type_that_was_asked_for(
    store: BlobStore, half: Digest, kind: str
) -> None:
    blob = quantize(half, kind.lower(), store=store, report=ignore)
    source, result = (inspect_blob(digest, store=store) for digest in (half, blob.digest))
    assert blob.is_new
    assert result.quantization_level == kind
    assert result.parameter_count == source.parameter_count
    assert result.context_length == source.context_length
    assert (blob.size_bytes > store.size_bytes(half)) is (kind in ("F32", "BF16"))


@pytest.mark.slow
@pytest.mark.beside
def test_result_is_a_model_that_the_engine_can_load(store: BlobStore, half: Digest) -> None:
    blob = quantize(half, "Q4_K_M", store=store, report=ignore)
    model = open_model(
        OpenModel(
            path=str(store.path(blob.digest)),
            options=RunnerOptions(num_ctx=256, num_batch=64),
            parallel=1,
            threads=1,
            use_extra_buffers=False,
        )
    )
    try:
        assert isinstance(model, LlamaModel)
        assert model.tokenize("hello world")
    finally:
        model.close()


@pytest.mark.slow
@pytest.mark.beside
def test_progress_grows_to_the_whole_and_ends_in_a_check(store: BlobStore, half: Digest) -> None:
    events: list[Progress] = []
    quantize(half, "Q4_K", store=store, report=events.append)
    *bars, last = events
    done = [bar.completed for bar in bars]
    assert {(bar.status, bar.digest) for bar in bars} == {
        ("quantizing F16 model to Q4_K_M", NO_DIGEST)
    }
    assert done[0] == 0
    assert done == sorted(done)
    assert done[-1] == bars[-1].total
    assert len(set(done)) > 10
    assert last == Progress(status="verifying conversion")


@pytest.mark.slow
@pytest.mark.beside
def test_refusal_of_llama_cpp_is_told(store: BlobStore, half_gguf: Path) -> None:
    data = half_gguf.read_bytes().replace(b"llama", b"lemon")
    digest = store.write_bytes(data).digest
    with pytest.raises(InvalidCreate, match=r"the model cannot be quantized: .*lemon"):
        quantize(digest, "Q8_0", store=store, report=ignore)


@pytest.mark.slow
@pytest.mark.beside
def test_result_cannot_grow_beyond_its_limit(
    store: BlobStore, half: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting(monkeypatch, quantizing._MODULE, file_bytes=100_000)
    before = sorted(store.root.iterdir())
    with pytest.raises((InvalidCreate, QuantizeFailed)):
        quantize(half, "Q8_0", store=store, report=ignore)
    assert sorted(store.root.iterdir()) == before


@pytest.mark.slow
@pytest.mark.beside
def test_spoilt_models_are_quantized_or_refused(
    store: BlobStore, half_gguf: Path, tmp_path: Path
) -> None:
    """Files that our reader accepts, and llama.cpp may not."""
    copies = readable_copies(half_gguf.read_bytes(), tmp_path / "spoilt", head_bytes=9000)
    twelve = list(islice(copies, 12))
    assert len(twelve) == 12
    for data in twelve:
        digest = store.write_bytes(data).digest
        try:
            assert quantize(digest, "Q8_0", store=store, report=ignore).size_bytes
        except (InvalidCreate, QuantizeFailed) as refusal:
            assert refusal.message  # noqa: PT017
