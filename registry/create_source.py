"""Where a new model's weights come from: another model's layers, or uploaded files.

The files are read and made whole by `registry.conversion`; here they become layers. Knows no
HTTP, no names and no access rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from registry import conversion, manifests, quantize
from registry.blobs import BlobStore, StoredBlob
from registry.digest import Digest
from registry.gguf_process import inspect_blob
from registry.library import ResolvedModel
from registry.manifests import LayerRef
from registry.progress import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The layers a model begins with, and the texts and settings that come with them.

    `ggufs` holds what each GGUF file says (as GgufFile.to_json) by its digest's 64 hex; files that
    another model has brought, its weights excepted, need not be in it.
    """

    layers: tuple[LayerRef, ...]
    ggufs: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> LayerRef:
        """The layer with the weights."""
        return next(layer for layer in self.layers if layer.mediaType == manifests.MODEL)

    @property
    def gguf(self) -> Mapping[str, Any]:
        """What the file with the weights says."""
        return self.ggufs[self.weights.blob.hex]


def source_of_model(base: ResolvedModel) -> Source:
    """Return what a model made from another one begins with."""
    return Source(
        layers=tuple(structs.replace(layer, source=base.name) for layer in base.manifest.layers),
        ggufs={base.weights: base.gguf},
        config=base.config,
        template=base.template,
        parameters=base.parameters,
    )


def source_of_files(files: Mapping[str, Digest], store: BlobStore, report: Report) -> Source:
    """Return what a model made from uploaded files begins with; `files` is by relative path.

    Raises InvalidCreate, GgufError, BlobNotFound, StorageFull.
    """
    found = conversion.prepare_files(files, store=store, report=report)
    kinds = (
        (manifests.MODEL, found.weights),
        (manifests.PROJECTOR, found.projector),
        (manifests.ADAPTER, found.adapter),
    )
    source = Source(layers=(), ggufs={})
    for media_type, blob in kinds:
        if blob is not None:
            source = _with_file(source, blob, media_type, store)
    return source


def with_adapters(
    source: Source, adapters: Mapping[str, Digest], store: BlobStore, report: Report
) -> Source:
    """Return the source with an uploaded adapter in addition.

    Raises InvalidCreate, GgufError, BlobNotFound.
    """
    blob = conversion.prepare_adapters(adapters, store=store, report=report)
    return _with_file(source, blob, manifests.ADAPTER, store)


def quantized(source: Source, kind: str, store: BlobStore, report: Report) -> Source:
    """Return the source with its weights in fewer bits; they may be in that form already.

    Raises InvalidCreate, GgufError, StorageFull, QuantizeFailed.
    """
    old = source.weights
    blob = quantize.quantize(old.blob, kind, store=store, report=report)
    if blob.digest == old.blob:
        return source
    others = tuple(layer for layer in source.layers if layer is not old)
    new = _with_file(replace(source, layers=()), blob, manifests.MODEL, store)
    return replace(new, layers=(*new.layers, *others))


def layer_of(blob: StoredBlob, media_type: str) -> LayerRef:
    """Return the manifest's entry for a stored file."""
    return LayerRef(mediaType=media_type, digest=str(blob.digest), size=blob.size_bytes)


def _with_file(source: Source, blob: StoredBlob, media_type: str, store: BlobStore) -> Source:
    info = inspect_blob(blob.digest, store=store).to_json()
    return replace(
        source,
        layers=(*source.layers, layer_of(blob, media_type)),
        ggufs={**source.ggufs, blob.digest.hex: info},
    )
