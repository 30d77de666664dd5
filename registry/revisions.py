"""What a repository's manifests are asked for: read, push, delete, list (contract/registry.md 2.1).

What is pushed is checked by `admission` before it is there, and one that is a model can be run at
once if it has a tag. Knows no HTTP and no row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from models_app import audit, revisions, services
from models_app import repositories as rows
from models_app.errors import InvalidModelName, ModelNotFound
from models_app.names import ModelName
from models_app.permissions import Principal
from models_app.revisions import StoredManifest
from registry import admission, removal, repositories
from registry.blobs import blob_store
from registry.digest import Digest
from registry.errors import (
    DigestMismatch,
    InvalidManifest,
    InvalidTag,
    ManifestUnknown,
)
from registry.quotas import require_quota
from registry.repositories import Action, Repository

_MAX_TAGS: Final = 32
_PAGE_MANIFESTS: Final = 100
_PAGE_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A manifest on its way in. `media_type`: what its sender calls it, perhaps empty.

    `reference` is a tag or a digest; `tags` are further ones.
    """

    reference: str
    body: bytes
    media_type: str
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Pushed:
    """A manifest that is there now."""

    path: str  # of its repository
    digest: Digest
    subject: Digest | None
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Referrers:
    """A page of the manifests that refer to another, as descriptors.

    `last` is the digest of the last one where there are more.
    """

    manifests: list[dict[str, Any]]
    last: str = ""


class _Annotated(msgspec.Struct, frozen=True):
    annotations: dict[str, str] | None = None


def read_manifest(principal: Principal, path: str, reference: str) -> StoredManifest:
    """Return a manifest by tag or digest.

    Raises as `repositories.find_repository`; InvalidDigest, ManifestUnknown.
    """
    digest = _digest_of(reference)
    repository = repositories.find_repository(principal, path, Action.PULL)
    if digest:
        found = revisions.find_by_digest(repository.model_id, digest.hex)
    else:
        tag = reference if _is_tag(reference) else ""
        found = revisions.find_by_tag(repository.model_id, tag)
    if found is None:
        raise ManifestUnknown(reference, is_digest=digest is not None)
    return found


def push_manifest(principal: Principal, path: str, push: Push) -> Pushed:
    """Check a manifest, record it and point its tags at it. Blocks while files are read.

    Raises as `repositories.open_repository` and `admission.admit`; InvalidTag, DigestMismatch,
    QuotaFull, TagIsImmutable.
    """
    name = repositories.push_target(principal, path)
    tags = _tags_of(push)
    with blob_store().in_use():
        new = admission.admit(
            push.body, media_type=push.media_type, size_of=_sizes(principal, path)
        )
        require_quota(name.namespace or "", len(push.body))
        with audit.act():
            services.push_manifest(name, new, tags=tags, owner_id=principal.user_id)
            told = {"tags": tags, "digest": new.digest}
            audit.record_model_act("model.push", name, by=principal, **told)
    # What a tag named until now may be needed by nothing any longer.
    removal.remove_unused()
    return Pushed(
        path=path,
        digest=Digest(new.digest),
        subject=Digest(new.subject) if new.subject else None,
        tags=tags,
    )


def delete_manifest(principal: Principal, path: str, reference: str) -> None:
    """Delete a tag alone; or, by its digest, a manifest with all of its tags.

    Raises as `repositories.find_repository`; InvalidDigest, ManifestUnknown, TagIsImmutable.
    """
    digest = _digest_of(reference)
    repository = repositories.find_repository(principal, path, Action.DELETE)
    with audit.act():
        if digest:
            was_there = revisions.delete_manifest(repository.model_id, digest.hex)
        else:
            was_there = _is_tag(reference) and revisions.delete_tag(repository.model_id, reference)
        if not was_there:
            raise ManifestUnknown(reference, is_digest=digest is not None)
        name = repository.name
        audit.record_model_act("model.delete", name, by=principal, reference=reference)
    removal.remove_unused()


def list_tags(principal: Principal, path: str) -> tuple[str, list[str]]:
    """Return a repository's path and its tags, in no order. Raises as `find_repository`."""
    repository = repositories.find_repository(principal, path, Action.PULL)
    return repository.path, revisions.tag_names(repository.model_id)


def list_repositories(principal: Principal) -> list[str]:
    """Return the paths of the repositories that one may see, in no order.

    Raises InsufficientScope.
    """
    repositories.require_catalog(principal)
    return list(rows.repository_names(principal))


def list_referrers(
    principal: Principal, path: str, subject: str, *, artifact_type: str = "", after: str = ""
) -> Referrers:
    """Return what refers to a manifest, which need not be there, nor its repository.

    `after`: the `last` of the page before. Raises InvalidDigest, InvalidModelName,
    InsufficientScope.
    """
    digest = Digest.parse(subject)
    behind = Digest.parse(after).hex if after else ""
    repository = _found(principal, path, Action.PULL)
    # No manifest has such a type, and PostgreSQL refuses to be asked for a NUL.
    if repository is None or not artifact_type.isprintable():
        return Referrers([])
    return _page(
        revisions.referrers(
            repository.model_id, digest.hex, artifact_type=artifact_type, after=behind
        )
    )


def _digest_of(reference: str) -> Digest | None:
    """Return the digest that a reference is, or None for a tag. Raises InvalidDigest."""
    # A tag has no colon; `sha256-…` is one, which clients use for what refers to a manifest.
    return Digest.parse(reference) if ":" in reference else None


def _tags_of(push: Push) -> tuple[str, ...]:
    """Return a push's tags. Raises InvalidTag, InvalidDigest, DigestMismatch, InvalidManifest."""
    digest = _digest_of(push.reference)
    if digest is not None and digest != (actual := Digest.of(push.body)):
        raise DigestMismatch(push.reference, str(actual))
    first = () if digest else (push.reference,)
    tags = tuple(dict.fromkeys((*first, *push.tags)))
    if len(tags) > _MAX_TAGS:
        raise InvalidManifest(f"a manifest may be given {_MAX_TAGS} tags at once")
    for tag in tags:
        if not _is_tag(tag):
            raise InvalidTag(tag)
    return tags


def _is_tag(text: str) -> bool:
    # As /api would read it, to whom a tag `local` is none.
    try:
        return ModelName.parse(f"x/y:{text}").tag == text
    except InvalidModelName:
        return False


def _sizes(principal: Principal, path: str) -> admission.SizeOf:
    repository = _found(principal, path, Action.PUSH)
    return repositories.sizes_of(repository) if repository else lambda _: None


def _found(principal: Principal, path: str, action: Action) -> Repository | None:
    try:
        return repositories.find_repository(principal, path, action)
    except ModelNotFound:
        return None


def _page(found: Iterable[StoredManifest]) -> Referrers:
    descriptors: list[dict[str, Any]] = []
    size_bytes = 0
    for manifest in found:
        if len(descriptors) == _PAGE_MANIFESTS or size_bytes > _PAGE_BYTES:
            return Referrers(descriptors, last=descriptors[-1]["digest"])
        descriptors.append(_descriptor(manifest))
        size_bytes += len(manifest.body)
    return Referrers(descriptors)


def _descriptor(manifest: StoredManifest) -> dict[str, Any]:
    descriptor: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": f"sha256:{manifest.digest}",
        "size": len(manifest.body),
    }
    if manifest.artifact_type:
        descriptor["artifactType"] = manifest.artifact_type
    annotations = _annotations(manifest.body)
    if annotations is not None:
        descriptor["annotations"] = annotations
    return descriptor


def _annotations(body: bytes) -> dict[str, str] | None:
    """Return a manifest's annotations; None where it has none that the specification knows."""
    try:
        return msgspec.json.decode(body, type=_Annotated).annotations
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None  # nobody has looked at them when it came
