"""Create a model: from an uploaded GGUF file, or from another model with some layers changed.

The starter model, `/api/create` and whatever else makes a model come through here. Merge rules
and status lines: contract/ollama.md 4.5. Knows no HTTP; templates are not executed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec
from msgspec import structs

from models_app import selectors, services
from models_app.names import ModelName
from models_app.permissions import Principal
from models_app.services import NewLayer, NewManifest
from registry import gguf, manifests, progress
from registry.blobs import BlobStore, StoredBlob, blob_store
from registry.capabilities import capabilities_of
from registry.digest import Digest
from registry.errors import InvalidCreate
from registry.library import ResolvedModel, write_target
from registry.manifests import Config, LayerRef, Manifest
from registry.progress import Progress, Report

# What a model may have many of is added to; of everything else the new one replaces the old.
_MANY: Final = frozenset({manifests.LICENSE})


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateModel:
    """What to create. Either `base` or `files` says where the weights come from.

    `principal` is None where the site itself writes to its library. Empty texts and messages
    that are None leave what the base has.
    """

    name: str
    principal: Principal | None
    base: ResolvedModel | None = None
    files: Mapping[str, Digest] | None = None
    template: str = ""
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    license: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the weights come from, with the layers and texts that come with them."""

    layers: tuple[LayerRef, ...]
    gguf: Mapping[str, Any]
    template: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


def create_model(request: CreateModel, *, report: Report = progress.ignore) -> ModelName:
    """Create or overwrite a model and return its name as it is stored.

    Raises InvalidModelName, NotYourModel, InvalidCreate, BlobNotFound, GgufError.
    """
    target = write_target(request.principal, ModelName.parse(request.name))
    store = blob_store()
    source = _source(request, store, report)
    layers = _merged_layers(request, source, store, report)
    has_projector = any(layer.mediaType == manifests.PROJECTOR for layer in layers)
    config = _config(source.gguf, request.template or source.template, has_projector=has_projector)
    stored = store.write_bytes(manifests.print_config(config))
    manifest = Manifest(config=_layer_ref(stored, manifests.CONFIG_TYPE), layers=layers)
    report(Progress(status="writing manifest"))
    owner_id = request.principal.user_id if request.principal else None
    name = services.write_tag(
        target, _new_manifest(manifest, config, source.gguf), owner_id=owner_id
    )
    report(Progress(status="success"))
    return name


# ------------------------------------------------------------------ where the weights come from


def _source(request: CreateModel, store: BlobStore, report: Report) -> _Source:
    if request.base is not None:
        return _source_of_model(request.base)
    if request.files is None:
        raise InvalidCreate("neither 'from' or 'files' was specified")
    return _source_of_file(_only_file(request.files), store, report)


def _source_of_model(base: ResolvedModel) -> _Source:
    layers = tuple(structs.replace(layer, source=base.name) for layer in base.manifest.layers)
    return _Source(layers, base.gguf, base.template, base.parameters)


def _source_of_file(digest: Digest, store: BlobStore, report: Report) -> _Source:
    report(Progress(status="parsing GGUF"))
    size_bytes = store.size_bytes(digest)
    found = gguf.read_gguf(store.path(digest))
    layer = LayerRef(mediaType=manifests.MODEL, digest=str(digest), size=size_bytes)
    return _Source((layer,), found.to_json())


def _only_file(files: Mapping[str, Digest]) -> Digest:
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidCreate("file path must be relative")
    if not files:
        raise InvalidCreate("unknown type")
    if len(files) > 1:
        raise InvalidCreate("only a single GGUF file is supported")
    return next(iter(files.values()))


# ------------------------------------------------------------------ layers


def _merged_layers(
    request: CreateModel, source: _Source, store: BlobStore, report: Report
) -> tuple[LayerRef, ...]:
    added = _added_layers(request, source)
    replaced = {media_type for media_type, _ in added} - _MANY
    layers = [layer for layer in source.layers if layer.mediaType not in replaced]
    for layer in layers:
        _report_layer(layer.digest, report, is_new=not selectors.has_blob(layer.blob.hex))
    for media_type, body in added:
        blob = store.write_bytes(body)
        _report_layer(str(blob.digest), report, is_new=blob.is_new)
        layers.append(_layer_ref(blob, media_type))
    return tuple(layers)


def _added_layers(request: CreateModel, source: _Source) -> list[tuple[str, bytes]]:
    added: list[tuple[str, bytes]] = []
    if request.template:
        added.append((manifests.TEMPLATE, request.template.encode()))
    if request.system:
        added.append((manifests.SYSTEM, request.system.encode()))
    added += [(manifests.LICENSE, text.encode()) for text in request.license]
    given = {name: value for name, value in request.parameters.items() if value is not None}
    if given:
        merged = {**source.parameters, **given}
        added.append((manifests.PARAMS, manifests.print_parameters(merged)))
    if request.messages is not None:
        added.append((manifests.MESSAGES, manifests.print_messages(request.messages)))
    return added


def _layer_ref(blob: StoredBlob, media_type: str) -> LayerRef:
    return LayerRef(mediaType=media_type, digest=str(blob.digest), size=blob.size_bytes)


def _report_layer(digest: str, report: Report, *, is_new: bool) -> None:
    what = "creating new layer" if is_new else "using existing layer"
    report(Progress(status=f"{what} {digest}"))


# ------------------------------------------------------------------ config and rows


def _config(gguf_info: Mapping[str, Any], template: str, *, has_projector: bool) -> Config:
    architecture = gguf_info["architecture"]
    return Config(
        model_format="gguf",
        model_family=architecture,
        model_families=(architecture,),
        model_type=gguf_info["parameter_size"],
        file_type=gguf_info["quantization_level"],
        capabilities=capabilities_of(
            architecture, gguf_info["metadata"], template, has_projector=has_projector
        ),
        context_length=gguf_info["context_length"] or 0,
        embedding_length=gguf_info["embedding_length"] or 0,
        architecture="amd64",
        os="linux",
    )


def _new_manifest(manifest: Manifest, config: Config, gguf_info: Mapping[str, Any]) -> NewManifest:
    body = manifests.print_manifest(manifest)
    return NewManifest(
        digest=Digest.of(body).hex,
        body=body,
        config=msgspec.to_builtins(config),
        layers=[
            NewLayer(
                digest=layer.blob.hex,
                size_bytes=layer.size,
                media_type=layer.mediaType,
                gguf=dict(gguf_info) if layer.mediaType == manifests.MODEL else None,
            )
            for layer in (manifest.config, *manifest.layers)
        ],
    )
