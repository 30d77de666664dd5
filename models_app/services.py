"""Writes that span tables: a tag with its manifest, its blobs and its model, all or nothing.

Who may write where has been decided before. Knows nothing of files, formats and HTTP.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, ParamSpec

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from models_app.errors import ModelNotFound
from models_app.models import (
    Blob,
    CacheScope,
    LanguageModel,
    Layer,
    Manifest,
    Tag,
    Upload,
    Visibility,
)
from models_app.names import LIBRARY, ModelName

P = ParamSpec("P")
_RETRIES: Final = 2


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


def _retried(write: Callable[P, ModelName]) -> Callable[P, ModelName]:
    """Begin a write again if a row that it found taken was gone when it looked at it.

    That takes somebody else who writes and deletes the same within a moment.
    """

    @wraps(write)
    def retry(*args: P.args, **kwargs: P.kwargs) -> ModelName:
        for _ in range(_RETRIES):
            with contextlib.suppress(IntegrityError):
                return write(*args, **kwargs)
        return write(*args, **kwargs)

    return retry


@_retried
@transaction.atomic
def write_tag(name: ModelName, manifest: NewManifest, *, owner_id: int | None) -> ModelName:
    """Point a name at a manifest, creating what is missing, and return the name as it is stored.

    A name that exists in another spelling is overwritten under its old one. A new model is seen
    by everyone if it is in the library, by its owner alone elsewhere. Files that the owner has
    uploaded for it are its layers from now on and uploads no longer.
    """
    stored = _point(name, _manifest(manifest), owner_id)
    if owner_id is not None:
        digests = {layer.digest for layer in manifest.layers}
        Upload.objects.filter(user_id=owner_id, digest__in=digests).delete()
    return stored


@_retried
@transaction.atomic
def copy_tag(digest: str, name: ModelName, *, owner_id: int | None) -> ModelName:
    """Point a name at the manifest of this digest and return the name as it is stored.

    Raises ModelNotFound where the manifest has been deleted meanwhile.
    """
    manifest = Manifest.objects.select_for_update().filter(digest=digest).first()
    if manifest is None:
        raise ModelNotFound(name.short)
    return _point(name, manifest, owner_id)


@transaction.atomic
def delete_tag(name: ModelName) -> None:
    """Delete a stored name, and its model with the last of its tags. Raises ModelNotFound."""
    model = LanguageModel.objects.select_for_update().filter(
        host=name.host, namespace=name.namespace or LIBRARY, name=name.model
    )
    tag = Tag.objects.filter(model=model.first(), name=name.tag).first()
    if tag is None:
        raise ModelNotFound(name.short)
    tag.delete()
    if not tag.model.tags.exists():
        tag.model.delete()


@transaction.atomic
def drop_unused() -> list[str]:
    """Delete manifests without a name and blobs without a manifest; return the blobs' digests.

    What somebody is about to name is locked by them and left alone.
    """
    is_named = Exists(Tag.objects.filter(manifest=OuterRef("pk")))
    keys = _locked(Manifest.objects.filter(~is_named))
    if not keys:
        return []
    used = list(Blob.objects.filter(manifests__in=keys).values_list("pk", flat=True).distinct())
    Manifest.objects.filter(pk__in=keys).delete()
    is_layer = Exists(Layer.objects.filter(blob=OuterRef("pk")))
    blobs = Blob.objects.filter(pk__in=_locked(Blob.objects.filter(~is_layer, pk__in=used)))
    dropped = list(blobs.values_list("digest", flat=True))
    blobs.delete()
    return dropped


def record_upload(user_id: int, digest: str, size_bytes: int) -> None:
    """Note that a user has brought a file, so that they may use it."""
    upload = Upload(
        user_id=user_id, digest=digest, size_bytes=size_bytes, created_at=timezone.now()
    )
    # One statement: another upload of it may come, and become a model's layer, meanwhile.
    Upload.objects.bulk_create(
        [upload],
        update_conflicts=True,
        unique_fields=["user", "digest"],
        update_fields=["size_bytes", "created_at"],
    )


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


def _locked(rows: QuerySet[Any]) -> list[int]:
    """Lock rows that fulfil a condition, and return the keys of those that do so still."""
    keys = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
    # PostgreSQL has looked before it locked: somebody may have named one and let go of it since.
    return list(rows.filter(pk__in=keys).values_list("pk", flat=True))


def _point(name: ModelName, manifest: Manifest, owner_id: int | None) -> ModelName:
    written = {"manifest": manifest, "modified_at": timezone.now()}
    tag, _ = Tag.objects.update_or_create(
        model=_model(name, owner_id),
        name__iexact=name.tag,
        defaults=written,
        create_defaults=written | {"name": name.tag},
    )
    return tag.full_name


def _model(name: ModelName, owner_id: int | None) -> LanguageModel:
    namespace = name.namespace or LIBRARY
    is_shared = namespace.lower() == LIBRARY
    # Locked, as the rows below: a deletion that runs beside this must see what it is used for.
    model, _ = LanguageModel.objects.select_for_update().get_or_create(
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
    size_bytes = sum(layer.size_bytes for layer in new.layers)
    row, is_new = Manifest.objects.select_for_update().get_or_create(
        digest=new.digest,
        defaults={"body": new.body, "config": new.config, "size_bytes": size_bytes},
    )
    if is_new:
        # In one order for everybody: two that lock the same blobs must not wait for each other.
        ordered = sorted(new.layers, key=lambda layer: layer.digest)
        blobs = {layer.digest: _blob(layer) for layer in ordered}
        Layer.objects.bulk_create(
            Layer(
                manifest=row,
                blob=blobs[layer.digest],
                position=position,
                media_type=layer.media_type,
            )
            for position, layer in enumerate(new.layers)
        )
    return row


def _blob(layer: NewLayer) -> Blob:
    row, is_new = Blob.objects.select_for_update().get_or_create(
        digest=layer.digest, defaults={"size_bytes": layer.size_bytes, "gguf": layer.gguf}
    )
    if not is_new and layer.gguf is not None and row.gguf is None:
        row.gguf = layer.gguf
        row.save(update_fields=["gguf"])
    return row
