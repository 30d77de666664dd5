"""Uploaded files: which is what, what is refused, and split models made whole."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from registry.blobs import BlobStore, StoredBlob
from registry.conversion import Sources, prepare_adapters, prepare_files
from registry.digest import Digest
from registry.errors import BlobNotFound, GgufError, InvalidCreate, StorageFull
from registry.gguf import GgufFile
from registry.gguf_process import inspect_blob
from registry.progress import Progress, ignore
from tests.gguf_files import write_split_model, write_tiny_model
from tests.vision_files import write_adapter, write_projector


@pytest.fixture
def prepare(store: BlobStore) -> Callable[[dict[str, Digest]], Sources]:
    return lambda files: prepare_files(files, store=store, report=ignore)


@pytest.fixture
def upload(store: BlobStore) -> Callable[[Path], Digest]:
    return lambda path: store.import_file(path).digest


@pytest.fixture
def model(store: BlobStore, tiny_gguf: Path) -> StoredBlob:
    blob = store.import_file(tiny_gguf)
    return StoredBlob(blob.digest, blob.size_bytes, is_new=False)


@pytest.fixture
def projector(upload: Callable[[Path], Digest], tmp_path: Path) -> Digest:
    return upload(write_projector(tmp_path / "mmproj.gguf"))


@pytest.fixture
def adapter(upload: Callable[[Path], Digest], tmp_path: Path) -> Digest:
    return upload(write_adapter(tmp_path / "lora.gguf"))


@pytest.fixture
def parts(upload: Callable[[Path], Digest], tmp_path: Path) -> dict[str, Digest]:
    folder = tmp_path / "parts"
    folder.mkdir()
    return {path.name: upload(path) for path in write_split_model(folder)}


def write_typed(path: Path, kind: str) -> Path:
    """Write a GGUF file that says what type of thing it is."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(kind)
    writer.add_tensor("t", np.zeros(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# ------------------------------------------------------------------ one file, and files beside it


def test_one_model_is_used_as_it_is(
    prepare: Callable[[dict[str, Digest]], Sources], model: StoredBlob
) -> None:
    assert prepare({"m.gguf": model.digest}) == Sources(weights=model)


def test_gguf_is_known_by_its_start_where_the_name_does_not_tell(
    prepare: Callable[[dict[str, Digest]], Sources], model: StoredBlob
) -> None:
    assert prepare({"weights/model": model.digest}).weights == model


def test_projector_is_found_whatever_it_is_called(
    prepare: Callable[[dict[str, Digest]], Sources], model: StoredBlob, projector: Digest
) -> None:
    sources = prepare({"a.gguf": projector, "b.gguf": model.digest})
    assert sources.weights == model
    assert sources.projector is not None
    assert sources.projector.digest == projector


def test_adapter_among_the_files_is_found(
    prepare: Callable[[dict[str, Digest]], Sources], model: StoredBlob, adapter: Digest
) -> None:
    sources = prepare({"lora.gguf": adapter, "m.gguf": model.digest})
    assert sources.weights == model
    assert sources.adapter is not None
    assert sources.adapter.digest == adapter


def test_statuses_are_those_of_ollama(store: BlobStore, model: StoredBlob) -> None:
    events: list[Progress] = []
    prepare_files({"m.gguf": model.digest}, store=store, report=events.append)
    assert events == [Progress(status="parsing GGUF"), Progress(status="verifying conversion")]


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "name", ["/m.gguf", "../m.gguf", "a/../../m.gguf", "/etc/passwd", "a/../b.gguf"]
)
def test_path_that_leaves_the_folder_is_refused(
    prepare: Callable[[dict[str, Digest]], Sources], model: StoredBlob, name: str
) -> None:
    with pytest.raises(InvalidCreate, match=r"^file path must be relative$"):
        prepare({name: model.digest})


def test_no_files_are_of_unknown_type(prepare: Callable[[dict[str, Digest]], Sources]) -> None:
    with pytest.raises(InvalidCreate, match=r"^unknown type$"):
        prepare({})


@pytest.mark.parametrize("data", [b"", b"GG", b"hello there", b"\x80\x04\x95pickle"])
def test_other_files_are_of_unknown_type(
    prepare: Callable[[dict[str, Digest]], Sources], store: BlobStore, data: bytes
) -> None:
    with pytest.raises(InvalidCreate, match=r"^unknown type$"):
        prepare({"pytorch_model.bin": store.write_bytes(data).digest})


def test_other_files_that_are_called_gguf_are_refused(
    prepare: Callable[[dict[str, Digest]], Sources], store: BlobStore
) -> None:
    with pytest.raises(GgufError, match=r"^supplied file was not in GGUF format$"):
        prepare({"m.gguf": store.write_bytes(b"hello there").digest})


def test_file_beside_the_model_that_is_no_gguf_is_refused(
    prepare: Callable[[dict[str, Digest]], Sources], store: BlobStore, model: StoredBlob
) -> None:
    readme = store.write_bytes(b"read me").digest
    with pytest.raises(GgufError, match=r"^supplied file was not in GGUF format$"):
        prepare({"m.gguf": model.digest, "README.md": readme})


def test_safetensors_are_refused_with_what_to_do(
    prepare: Callable[[dict[str, Digest]], Sources], store: BlobStore
) -> None:
    digest = store.write_bytes(b"\2\0\0\0\0\0\0\0{}").digest
    with pytest.raises(InvalidCreate, match="convert the model to GGUF first"):
        prepare({"model.safetensors": digest, "config.json": digest})


@pytest.mark.parametrize("name", ["m.gguf", "m"])
def test_missing_blob_is_named(prepare: Callable[[dict[str, Digest]], Sources], name: str) -> None:
    digest = Digest.of(b"never uploaded")
    with pytest.raises(BlobNotFound, match=f"blob {digest} not found"):
        prepare({name: digest})


def test_blob_that_is_a_link_is_not_followed(
    prepare: Callable[[dict[str, Digest]], Sources], store: BlobStore, tiny_gguf: Path
) -> None:
    digest = Digest.of(b"a link")
    store.root.mkdir()
    store.path(digest).symlink_to(tiny_gguf)
    with pytest.raises(GgufError, match="cannot be opened"):
        prepare({"m.gguf": digest})


def test_two_models_are_refused(
    prepare: Callable[[dict[str, Digest]], Sources], model: StoredBlob
) -> None:
    with pytest.raises(InvalidCreate, match="only a single GGUF file is supported"):
        prepare({"a.gguf": model.digest, "b.gguf": model.digest})


def test_two_projectors_are_refused(
    prepare: Callable[[dict[str, Digest]], Sources], model: StoredBlob, projector: Digest
) -> None:
    with pytest.raises(InvalidCreate, match="only one projector is currently supported"):
        prepare({"m.gguf": model.digest, "a.gguf": projector, "b.gguf": projector})


def test_projector_alone_is_no_model(
    prepare: Callable[[dict[str, Digest]], Sources], projector: Digest
) -> None:
    with pytest.raises(InvalidCreate, match=r"^no files provided to convert$"):
        prepare({"mmproj.gguf": projector})


def test_file_of_another_type_is_refused(
    prepare: Callable[[dict[str, Digest]], Sources],
    upload: Callable[[Path], Digest],
    tmp_path: Path,
) -> None:
    with pytest.raises(GgufError, match="of the type 'imatrix' is not part of a model"):
        prepare({"m.gguf": upload(write_typed(tmp_path / "m.gguf", "imatrix"))})


def test_model_without_tensors_is_refused(
    prepare: Callable[[dict[str, Digest]], Sources],
    upload: Callable[[Path], Digest],
    tmp_path: Path,
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(GgufError, match="has no tensors"):
        prepare({"m.gguf": upload(tmp_path / "m.gguf")})


def test_very_many_files_are_refused(prepare: Callable[[dict[str, Digest]], Sources]) -> None:
    files = {f"{number}.gguf": Digest.of(b"") for number in range(1000)}
    with pytest.raises(InvalidCreate, match="1000 files are more than a model may have"):
        prepare(files)


# ------------------------------------------------------------------ split models


def test_split_model_becomes_one_blob(
    prepare: Callable[[dict[str, Digest]], Sources],
    store: BlobStore,
    parts: dict[str, Digest],
    tmp_path: Path,
) -> None:
    whole = write_tiny_model(tmp_path / "whole.gguf")
    weights = prepare(dict(reversed(parts.items()))).weights
    assert store.path(weights.digest).read_bytes() == whole.read_bytes()
    assert weights.is_new


def test_joining_tells_how_far_it_is(store: BlobStore, parts: dict[str, Digest]) -> None:
    events: list[Progress] = []
    prepare_files(parts, store=store, report=events.append)
    joining = [event for event in events if event.status == "joining 3 GGUF files"]
    assert (joining[0].completed, joining[-1].completed) == (0, joining[-1].total)
    assert {event.digest for event in joining} == {"0" * 19}


def test_single_part_is_not_a_model(
    prepare: Callable[[dict[str, Digest]], Sources], parts: dict[str, Digest]
) -> None:
    name, digest = parts.popitem()
    with pytest.raises(GgufError, match="part 1 of 3 of the split GGUF file is missing"):
        prepare({name: digest})


def test_refused_parts_leave_nothing_behind(
    prepare: Callable[[dict[str, Digest]], Sources], store: BlobStore, parts: dict[str, Digest]
) -> None:
    parts.popitem()
    before = sorted(store.root.iterdir())
    with pytest.raises(GgufError):
        prepare(parts)
    assert sorted(store.root.iterdir()) == before


def test_split_model_that_does_not_fit_on_the_disk_is_refused(
    prepare: Callable[[dict[str, Digest]], Sources],
    parts: dict[str, Digest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.disk_space._LEFT_FREE_BYTES", 2**62)
    with pytest.raises(
        StorageFull, match=r"not enough disk space: .* bytes are needed, 0 are free"
    ):
        prepare(parts)


# ------------------------------------------------------------------ adapters


def test_adapter_is_used_as_it_is(store: BlobStore, adapter: Digest) -> None:
    blob = prepare_adapters({"lora.gguf": adapter}, store=store, report=ignore)
    assert blob == StoredBlob(adapter, store.size_bytes(adapter), is_new=False)


def test_file_with_many_names_is_read_once(
    prepare: Callable[[dict[str, Digest]], Sources],
    model: StoredBlob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[Digest] = []

    def counted(digest: Digest, *, store: BlobStore) -> GgufFile:
        read.append(digest)
        return inspect_blob(digest, store=store)

    monkeypatch.setattr("registry.conversion.inspect_blob", counted)
    with pytest.raises(InvalidCreate, match="only a single GGUF file is supported"):
        prepare({f"{number}.gguf": model.digest for number in range(100)})
    assert read == [model.digest]


def test_two_adapters_are_refused(store: BlobStore, adapter: Digest) -> None:
    with pytest.raises(InvalidCreate, match=r"^only one adapter is currently supported$"):
        prepare_adapters({"a.gguf": adapter, "b.gguf": adapter}, store=store, report=ignore)


def test_model_is_no_adapter(store: BlobStore, model: StoredBlob) -> None:
    with pytest.raises(InvalidCreate, match="not a LoRA adapter"):
        prepare_adapters({"lora.gguf": model.digest}, store=store, report=ignore)


def test_adapter_of_another_kind_is_refused(store: BlobStore, tmp_path: Path) -> None:
    digest = store.import_file(write_typed(tmp_path / "a.gguf", "adapter")).digest
    with pytest.raises(InvalidCreate, match="not a LoRA adapter"):
        prepare_adapters({"lora.gguf": digest}, store=store, report=ignore)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../lora.gguf", "file path must be relative"),
        ("adapter_model.safetensors", "conversion of safetensors is not supported"),
        ("adapter_model.bin", "unknown type"),
    ],
)
def test_adapter_files_are_checked_as_model_files(
    store: BlobStore, name: str, message: str
) -> None:
    digest = store.write_bytes(b"no adapter").digest
    with pytest.raises(InvalidCreate, match=message):
        prepare_adapters({name: digest}, store=store, report=ignore)


def test_no_adapters_are_of_unknown_type(store: BlobStore) -> None:
    with pytest.raises(InvalidCreate, match=r"^unknown type$"):
        prepare_adapters({}, store=store, report=ignore)
