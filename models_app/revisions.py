"""The manifests of a repository: those that were pushed to it and those that its tags name.

Who may do what has been decided before. Knows nothing of files, formats and HTTP; manifests are
recorded by `services.push_manifest`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from models_app.models import LanguageModel, Manifest, RepositoryManifest, Tag
from models_app.namespaces import require_mutable


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was received. Its digest has 64 hex digits."""

    digest: str
    media_type: str
    artifact_type: str
    body: bytes


def find_by_tag(model_id: int, tag: str) -> StoredManifest | None:
    """Return the manifest that a tag names, whatever the tag's case."""
    found = Manifest.objects.filter(tags__model_id=model_id, tags__name__iexact=tag)
    return _first(found.filter(served=None))


def find_by_digest(model_id: int, digest: str) -> StoredManifest | None:
    """Return a manifest of the repository by its digest."""
    return _first(_manifests(model_id).filter(digest=digest))


def tag_names(model_id: int) -> list[str]:
    """Return all tags of a repository, in no order."""
    return list(Tag.objects.filter(model_id=model_id).values_list("name", flat=True))


def referrers(
    model_id: int, subject: str, *, artifact_type: str = "", after: str = ""
) -> Iterator[StoredManifest]:
    """Yield the repository's manifests that refer to a subject, by digest, behind one of them."""
    found = _manifests(model_id).filter(subject=subject, digest__gt=after).order_by("digest")
    if artifact_type:
        found = found.filter(artifact_type=artifact_type)
    # One by one: each may have megabytes, and the reader stops when a page is full.
    digests = list(found.values_list("digest", flat=True).distinct())
    for digest in digests:
        if manifest := find_by_digest(model_id, digest):
            yield manifest


@transaction.atomic
def delete_tag(model_id: int, tag: str) -> bool:
    """Delete a tag alone: its manifest stays if it was pushed; return whether the tag was there.

    Raises TagIsImmutable.
    """
    model = _locked(model_id)
    row = model.tags.filter(name__iexact=tag).first() if model else None
    if model is None or row is None:
        return False
    require_mutable(model, row.name)
    keep_for_now(model_id, [row.manifest_id])
    row.delete()
    _drop_if_empty(model)
    return True


@transaction.atomic
def delete_manifest(model_id: int, digest: str) -> bool:
    """Delete a manifest and its tags from a repository; return whether it was there.

    Raises TagIsImmutable.
    """
    model = _locked(model_id)
    if model is None:
        return False
    tags = model.tags.filter(manifest__digest=digest)
    for name in tags.values_list("name", flat=True):
        require_mutable(model, name)
    deleted_tags, _ = tags.delete()
    deleted, _ = model.revisions.filter(manifest__digest=digest).delete()
    _drop_if_empty(model)
    return deleted_tags + deleted > 0


def keep_for_now(model_id: int, manifest_ids: Iterable[int]) -> None:
    """Note that tags let go of manifests now: those that were pushed stay for a while from here."""
    left = RepositoryManifest.objects.filter(model_id=model_id, manifest__in=list(manifest_ids))
    left.update(last_named_at=timezone.now())


def _manifests(model_id: int) -> QuerySet[Manifest]:
    in_repository = Q(tags__model_id=model_id) | Q(revisions__model_id=model_id)
    # What an engine elsewhere serves has nothing that anybody could fetch.
    return Manifest.objects.filter(in_repository, served=None).distinct()


def _first(found: QuerySet[Manifest]) -> StoredManifest | None:
    # Its key first: telling bodies apart would compare megabytes.
    key = found.values_list("pk", flat=True).first()
    row = Manifest.objects.filter(pk=key).first() if key is not None else None
    if row is None:
        return None
    return StoredManifest(row.digest, row.media_type, row.artifact_type, bytes(row.body))


def _locked(model_id: int) -> LanguageModel | None:
    return LanguageModel.objects.select_for_update().filter(pk=model_id).first()


def _drop_if_empty(model: LanguageModel) -> None:
    held = (model.tags, model.revisions, model.files, model.sessions)
    if not any(rows.exists() for rows in held):
        model.delete()
