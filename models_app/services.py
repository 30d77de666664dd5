"""Writes that span tables: a tag with its manifest, its blobs and its model, all or nothing.

Who may write where has been decided before. Knows nothing of files, formats and HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils import timezone

from models_app.errors import ModelNotFound
from models_app.models import Blob, CacheScope, LanguageModel, Layer, Manifest, Tag, Visibility
from models_app.names import LIBRARY, ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLayer:
    """A layer to be recorded. `gguf` is set where its blob is a model's weights."""

    digest: str  # 64 hex
    size_bytes: int
    media_type: str
    gguf: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewManifest:
    """A manifest to be recorded; `layers` begins with the config."""

    digest: str  # 64 hex, of `body`
    body: bytes
    config: dict[str, Any] = field(default_factory=dict)
    layers: Sequence[NewLayer]


@transaction.atomic
def write_tag(name: ModelName, manifest: NewManifest, *, owner_id: int | None) -> ModelName:
    """Point a name at a manifest, creating what is missing, and return the name as it is stored.

    A name that exists in another spelling is overwritten under its old one. A new model is seen
    by everyone if it is in the library, by its owner alone elsewhere.
    """
    written = {"manifest": _manifest(manifest), "modified_at": timezone.now()}
    tag, _ = Tag.objects.update_or_create(
        model=_model(name, owner_id),
        name__iexact=name.tag,
        defaults=written,
        create_defaults=written | {"name": name.tag},
    )
    return tag.full_name


@transaction.atomic
def set_model(
    name: ModelName, *, cache_scope: CacheScope | None = None, is_pinned: bool | None = None
) -> LanguageModel:
    """Change how a model is served, for all of its tags; None leaves what is there.

    A bare name means the library. Raises ModelNotFound.
    """
    model = (
        LanguageModel.objects.select_for_update()
        .filter(host__iexact=name.host, namespace__iexact=name.namespace or LIBRARY)
        .filter(name__iexact=name.model)
        .first()
    )
    if model is None:
        raise ModelNotFound(name.short)
    if cache_scope is not None:
        model.cache_scope = cache_scope
    if is_pinned is not None:
        model.is_pinned = is_pinned
    model.save(update_fields=["cache_scope", "is_pinned"])
    return model


def _model(name: ModelName, owner_id: int | None) -> LanguageModel:
    namespace = name.namespace or LIBRARY
    is_shared = namespace.lower() == LIBRARY
    model, _ = LanguageModel.objects.get_or_create(
        host__iexact=name.host,
        namespace__iexact=namespace,
        name__iexact=name.model,
        defaults={
            "host": name.host,
            "namespace": namespace,
            "name": name.model,
            "owner_id": owner_id,
            "visibility": Visibility.EVERYONE if is_shared else Visibility.PRIVATE,
        },
    )
    return model


def _manifest(new: NewManifest) -> Manifest:
    row, is_new = Manifest.objects.get_or_create(
        digest=new.digest, defaults={"body": new.body, "config": new.config}
    )
    if is_new:
        blobs = [_blob(layer) for layer in new.layers]
        Layer.objects.bulk_create(
            Layer(manifest=row, blob=blob, position=position, media_type=layer.media_type)
            for position, (layer, blob) in enumerate(zip(new.layers, blobs, strict=True))
        )
    return row


def _blob(layer: NewLayer) -> Blob:
    row, is_new = Blob.objects.get_or_create(
        digest=layer.digest, defaults={"size_bytes": layer.size_bytes, "gguf": layer.gguf}
    )
    if not is_new and layer.gguf is not None and row.gguf is None:
        row.gguf = layer.gguf
        row.save(update_fields=["gguf"])
    return row
