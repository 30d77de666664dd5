"""Writes that span tables: a tag with its manifest, its blobs and its model, all or nothing.

Who may write where has been decided before. Knows nothing of files, formats and HTTP.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from models_app.errors import ModelNotFound
from models_app.models import (
    MANIFEST_TYPE,
    Blob,
    LanguageModel,
    Layer,
    Manifest,
    RepositoryManifest,
    Tag,
    Team,
    Upload,
    User,
    Visibility,
)
from models_app.names import LIBRARY, ModelName
from models_app.namespaces import require_mutable
from models_app.permissions import SiteRole
from models_app.revisions import keep_for_now
from models_app.row_locks import locked
from models_app.selectors import is_mirror_name

P = ParamSpec("P")
R = TypeVar("R")
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
    """A manifest to be recorded; `layers` begins with the config, where it has one.

    What else there is: `models_app.models.Manifest`.
    """

    digest: str  # 64 hex, of `body`
    body: bytes
    config: dict[str, Any] = field(default_factory=dict)
    layers: Sequence[NewLayer]
    media_type: str = MANIFEST_TYPE
    is_model: bool = True
    children: Sequence[str] = ()  # 64 hex
    subject: str = ""  # 64 hex
    artifact_type: str = ""


def _retried(write: Callable[P, R]) -> Callable[P, R]:
    """Begin a write again if a row that it found taken was gone when it looked at it.

    That takes somebody else who writes and deletes the same within a moment.
    """

    @wraps(write)
    def retry(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(_RETRIES):
            with contextlib.suppress(IntegrityError):
                return write(*args, **kwargs)
        return write(*args, **kwargs)

    return retry


@_retried
@transaction.atomic
def write_tag(name: ModelName, manifest: NewManifest, *, owner_id: int | None) -> ModelName:
    """Point a name at a manifest, creating what is missing, and return the name as it is stored.

    `owner_id` is who writes. A name that exists in another spelling is overwritten under its old
    one, and stays whose it was. A new model is theirs, or the team's whose namespace it is in. It
    is seen by everyone if it is in the library, or another registry's and brought by those who run
    the site; by the team, or its owner alone, elsewhere. Files that they have uploaded for it are
    its layers from now on and uploads no longer. Raises ModelNotFound where a model of somebody
    else has been deleted meanwhile.
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


@_retried
@transaction.atomic
def open_model(name: ModelName, *, owner_id: int | None) -> LanguageModel:
    """Return the model of this name, creating it without a tag: one is about to push to it."""
    return _model(name, owner_id)


@_retried
@transaction.atomic
def push_manifest(
    name: ModelName,
    manifest: NewManifest,
    *,
    tags: Sequence[str],
    owner_id: int | None,
) -> None:
    """Record a manifest that was pushed under a name, and point tags at it; the name's is unread.

    Raises TagIsImmutable.
    """
    row = _manifest(manifest)
    model = _model(name, owner_id)
    RepositoryManifest.objects.update_or_create(
        model=model, manifest=row, defaults={"last_named_at": timezone.now()}
    )
    for tag in tags:
        _point(replace(name, tag=tag), row, owner_id)


@transaction.atomic
def delete_tag(tag_id: int) -> bool:
    """Delete a tag, and its model with the last of its tags; return whether it was there.

    What was pushed under the name goes with it: nothing is left that no tag needs. Raises
    TagIsImmutable.
    """
    model = LanguageModel.objects.select_for_update().filter(tags=tag_id).first()
    tag = Tag.objects.filter(pk=tag_id).first()
    if tag is None or model is None:
        return False
    require_mutable(model, tag.name)
    tag.delete()
    if not model.tags.exists():
        model.delete()
    elif _is_child(tag):
        keep_for_now(model.pk, [tag.manifest_id])
    elif not model.tags.filter(manifest=tag.manifest_id).exists():
        model.revisions.filter(manifest=tag.manifest_id).delete()
    return True


def _is_child(tag: Tag) -> bool:
    """Whether an index of the same repository names what a tag names."""
    indexes = Manifest.objects.filter(revisions__model=tag.model_id).exclude(children=[])
    named = indexes.values_list("children", flat=True)
    return any(tag.manifest.digest in children for children in named)


@transaction.atomic
def drop_unused() -> list[str]:
    """Delete manifests without a name and blobs without a manifest; return the blobs' digests.

    What somebody is about to name is locked by them and left alone; what was pushed stays until
    its repository lets go of it.
    """
    is_named = Exists(Tag.objects.filter(manifest=OuterRef("pk")))
    is_pushed = Exists(RepositoryManifest.objects.filter(manifest=OuterRef("pk")))
    keys = locked(Manifest.objects.filter(~is_named, ~is_pushed))
    if not keys:
        return []
    used = list(Blob.objects.filter(manifests__in=keys).values_list("pk", flat=True).distinct())
    Manifest.objects.filter(pk__in=keys).delete()
    is_layer = Exists(Layer.objects.filter(blob=OuterRef("pk")))
    blobs = Blob.objects.filter(pk__in=locked(Blob.objects.filter(~is_layer, pk__in=used)))
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


def _point(name: ModelName, manifest: Manifest, owner_id: int | None) -> ModelName:
    model = _model(name, owner_id)
    before = model.tags.filter(name__iexact=name.tag).first()
    if before is not None and before.manifest_id != manifest.pk:
        require_mutable(model, before.name)
        keep_for_now(model.pk, [before.manifest_id])
    written = {"manifest": manifest, "modified_at": timezone.now()}
    tag, _ = Tag.objects.update_or_create(
        model=model,
        name__iexact=name.tag,
        defaults=written,
        create_defaults=written | {"name": name.tag},
    )
    return tag.full_name


def _model(name: ModelName, owner_id: int | None) -> LanguageModel:
    namespace = name.namespace or LIBRARY
    is_mirror = is_mirror_name(name)
    same = LanguageModel.objects.filter(
        host__iexact=name.host,
        namespace__iexact=namespace,
        name__iexact=name.model,
        is_mirror=is_mirror,
        **({"owner_id": owner_id} if is_mirror else {}),
    )
    # Locked, as the rows below: a deletion that runs beside this must see what it is used for.
    model = same.select_for_update().first()
    if model is None:
        written = {"host": name.host, "namespace": namespace, "name": name.model}
        whose = _whose(name.within(namespace), owner_id, is_mirror=is_mirror)
        model = LanguageModel.objects.create(**written, is_mirror=is_mirror, **whose)
    return model


def _whose(name: ModelName, writer_id: int | None, *, is_mirror: bool) -> dict[str, Any]:
    """Return whose a new model is, and who may see it at first. Raises ModelNotFound."""
    namespace = name.namespace or LIBRARY
    if is_mirror:
        # Those who run the site bring models for everybody, whatever their names.
        brings = Q(is_superuser=True) | Q(site_role=SiteRole.OPERATOR)
        # Locked, so that what somebody brings who is losing this role is either left to the site
        # with the rest or theirs alone.
        writers = User.objects.select_for_update(no_key=True).filter(brings, pk__in=[writer_id])
        is_shared = writer_id is None or writers.first() is not None
        visibility = Visibility.EVERYONE if is_shared else Visibility.PRIVATE
        return {"owner_id": writer_id, "visibility": visibility}
    if namespace.lower() == LIBRARY:
        return {"owner_id": writer_id, "visibility": Visibility.EVERYONE}
    # Locked, so that a team that is being deleted leaves no model behind.
    team = Team.objects.select_for_update(no_key=True).filter(name__iexact=namespace).first()
    if team is not None:
        return {"team": team, "visibility": Visibility.TEAM}
    is_own = User.objects.filter(username__iexact=namespace, pk__in=[writer_id]).exists()
    if not is_own:
        # They may write over what is there, and not bring it back for its owner.
        raise ModelNotFound(name.short)
    return {"owner_id": writer_id, "visibility": Visibility.PRIVATE}


def _manifest(new: NewManifest) -> Manifest:
    size_bytes = sum(layer.size_bytes for layer in new.layers)
    row, is_new = Manifest.objects.select_for_update().get_or_create(
        digest=new.digest,
        defaults={
            "body": new.body,
            "config": new.config,
            "size_bytes": size_bytes,
            "media_type": new.media_type,
            "is_model": new.is_model,
            "children": list(new.children),
            "subject": new.subject,
            "artifact_type": new.artifact_type,
        },
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
