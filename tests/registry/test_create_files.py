"""Models of several files: split weights, a projector, an adapter, fewer bits (contract 4.5)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from models_app.models import Blob, User
from models_app.permissions import Verb
from registry import library, manifests, progress
from registry.blobs import BlobStore
from registry.create import CreateModel, create_model
from registry.digest import Digest
from registry.errors import BlobNotFound, InvalidCreate
from registry.library import ResolvedModel
from registry.progress import Progress, Report
from tests.conftest import principal_for
from tests.gguf_files import CHATML_JINJA, write_split_model, write_tiny_model

pytestmark = pytest.mark.django_db

Upload = Callable[..., Digest]


@pytest.fixture
def upload(store: BlobStore, tmp_path: Path) -> Upload:
    """Store a GGUF file of an architecture with a single tensor and the given texts."""

    def write(architecture: str, **texts: str) -> Digest:
        path = tmp_path / f"{architecture}-{len(list(tmp_path.iterdir()))}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        for key, text in texts.items():
            writer.add_string(key.replace("__", "."), text)
        writer.add_tensor("a.weight", np.ones(32, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return store.import_file(path).digest

    return write


@pytest.fixture
def weights(store: BlobStore, tiny_gguf: Path) -> Digest:
    return store.import_file(tiny_gguf).digest


@pytest.fixture
def adapter(upload: Upload) -> Digest:
    return upload("llama", general__type="adapter", adapter__type="lora")


@pytest.fixture
def made(alice: User) -> Callable[..., ResolvedModel]:
    """Create a model in the library and look it up."""

    def make(report: Report = progress.ignore, **changes: Any) -> ResolvedModel:
        create_model(CreateModel(name="tiny", principal=None, **changes), report=report)
        return library.resolve(principal_for(alice), "tiny", Verb.READ)

    return make


Made = Callable[..., ResolvedModel]


def test_template_that_is_known_by_sight_becomes_a_layer(
    store: BlobStore, tmp_path: Path, made: Made
) -> None:
    path = write_tiny_model(tmp_path / "chatml.gguf", chat_template=CHATML_JINJA)
    digest = store.import_file(path).digest
    told: list[str] = []
    model = made(lambda at: told.append(at.status), files={"chatml.gguf": digest})

    assert model.template.startswith("{{- range .Messages }}<|im_start|>{{ .Role }}")
    assert model.parameters == {"stop": ["<|im_start|>", "<|im_end|>"]}
    params = model.manifest.of_type(manifests.PARAMS)[0].digest
    assert told[-5:] == [
        f"creating new layer {digest}",
        "using autodetected template chatml",
        f"creating new layer {params}",
        "writing manifest",
        "success",
    ]


def test_given_template_and_stops_are_kept(store: BlobStore, tmp_path: Path, made: Made) -> None:
    path = write_tiny_model(tmp_path / "chatml.gguf", chat_template=CHATML_JINJA)
    files = {"chatml.gguf": store.import_file(path).digest}

    assert made(files=files, template="{{ .Prompt }}").template == "{{ .Prompt }}"
    model = made(files=files, parameters={"stop": ["x"], "seed": 1})
    assert model.parameters == {"stop": ["x"], "seed": 1}


def test_split_files_become_one(store: BlobStore, tmp_path: Path, made: Made) -> None:
    parts = write_split_model(tmp_path)
    files = {path.name: store.import_file(path).digest for path in parts}
    model = made(files=files)
    assert [layer.mediaType for layer in model.manifest.layers] == [manifests.MODEL]
    assert model.gguf["parameter_size"] == "123K"


def test_projector_is_a_layer_and_lets_the_model_see(
    weights: Digest, upload: Upload, made: Made
) -> None:
    projector = upload("clip", general__type="mmproj")
    model = made(files={"m.gguf": weights, "p.gguf": projector})
    assert (model.weights, model.projector) == (weights.hex, projector.hex)
    assert "vision" in model.config["capabilities"]


def test_metadata_of_every_file_is_kept(weights: Digest, upload: Upload, made: Made) -> None:
    projector = upload("clip", general__type="mmproj")
    made(files={"m.gguf": weights, "p.gguf": projector})
    kept = {blob.digest: blob.gguf for blob in Blob.objects.exclude(gguf=None)}
    assert set(kept) == {weights.hex, projector.hex}


def test_adapter_is_a_layer(weights: Digest, adapter: Digest, made: Made) -> None:
    model = made(files={"m.gguf": weights}, adapters={"a.gguf": adapter})
    assert (model.weights, model.adapters) == (weights.hex, (adapter.hex,))


def test_adapter_can_be_put_on_another_model(weights: Digest, adapter: Digest, made: Made) -> None:
    base = made(files={"m.gguf": weights}, system="Be kind.")
    model = made(base=base, adapters={"a.gguf": adapter})
    assert (model.adapters, model.system) == ((adapter.hex,), "Be kind.")


def test_adapter_alone_is_no_model(adapter: Digest, made: Made) -> None:
    with pytest.raises(InvalidCreate, match="neither 'from' or 'files' was specified"):
        made(adapters={"a.gguf": adapter})


def test_no_more_than_one_adapter_is_taken(weights: Digest, adapter: Digest, made: Made) -> None:
    with pytest.raises(InvalidCreate, match="only one adapter is currently supported"):
        made(files={"m.gguf": weights}, adapters={"a.gguf": adapter, "b.gguf": adapter})


def test_weights_are_stored_in_fewer_bits(weights: Digest, made: Made) -> None:
    base = made(files={"m.gguf": weights}, system="Be kind.")
    model = made(base=base, quantize="q8_0")
    assert model.weights != weights.hex
    assert (model.config["file_type"], model.system) == ("Q8_0", "Be kind.")
    assert model.manifest.layers[0].mediaType == manifests.MODEL


def test_weights_that_have_the_type_already_are_kept(weights: Digest, made: Made) -> None:
    assert made(files={"m.gguf": weights}, quantize="F32").weights == weights.hex


def test_unknown_type_is_refused_before_anything_is_read(weights: Digest) -> None:
    events: list[Progress] = []
    request = CreateModel(name="tiny", principal=None, files={"m.gguf": weights}, quantize="Q9_K")
    with pytest.raises(InvalidCreate, match="unsupported quantization type Q9_K"):
        create_model(request, report=events.append)
    assert events == []


def test_base_whose_file_is_gone_is_refused(weights: Digest, store: BlobStore, made: Made) -> None:
    base = made(files={"m.gguf": weights})
    store.path(weights).unlink()
    with pytest.raises(BlobNotFound):
        made(base=base, system="x")


def needed() -> set[str]:
    return {f"sha256-{digest}" for digest in Blob.objects.values_list("digest", flat=True)}


def test_steps_on_the_way_to_the_weights_are_not_kept(
    store: BlobStore, alice: User, tmp_path: Path
) -> None:
    parts = {path.name: store.import_file(path).digest for path in write_split_model(tmp_path)}
    request = CreateModel(name="m", principal=principal_for(alice), files=parts, quantize="F16")
    create_model(request)
    uploaded = {digest.file_name for digest in parts.values()}
    assert {path.name for path in store.root.iterdir()} == needed() | uploaded


def test_refused_model_leaves_no_file(store: BlobStore, alice: User, tmp_path: Path) -> None:
    parts = {path.name: store.import_file(path).digest for path in write_split_model(tmp_path)}
    request = CreateModel(
        name="m", principal=principal_for(alice), files=parts, license=("x",) * 300
    )
    with pytest.raises(InvalidCreate):
        create_model(request)
    assert {path.name for path in store.root.iterdir()} == {
        digest.file_name for digest in parts.values()
    }
