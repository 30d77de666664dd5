"""Reads with access applied: which tags a principal may see, and what stands behind them.

Hands out frozen records, never rows. Knows nothing of files, formats and HTTP.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Lower

from models_app.models import Blob, LanguageModel, Tag, Visibility
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal


@dataclass(frozen=True, slots=True)
class TagRecord:
    """A tag with its model's owner and its manifest."""

    name: ModelName
    owner_id: int | None
    visibility: str
    modified_at: datetime
    digest: str  # of the manifest, 64 hex
    manifest: bytes
    config: dict[str, Any]
    cache_scope: str
    is_pinned: bool


def find_tag(principal: Principal, name: ModelName) -> TagRecord | None:
    """Return the tag a name stands for, or None where there is none that the principal may see.

    Names match whatever their case. A bare name means the own namespace first, then the library.
    """
    namespaces = [name.namespace] if name.namespace else [principal.namespace, LIBRARY]
    wanted = [namespace.lower() for namespace in namespaces]
    tags = (
        _visible_tags(principal)
        .alias(host_key=Lower("model__host"), model_key=Lower("model__name"))
        .alias(namespace_key=Lower("model__namespace"), tag_key=Lower("name"))
        .filter(host_key=name.host.lower(), namespace_key__in=wanted)
        .filter(model_key=name.model.lower(), tag_key=name.tag.lower())
    )
    found = {tag.model.namespace.lower(): tag for tag in tags}
    return next((_record(found[key]) for key in wanted if key in found), None)


def visible_tags(principal: Principal) -> list[TagRecord]:
    """Return every tag the principal may see, the newest first."""
    return [_record(tag) for tag in _visible_tags(principal)]


def blob_gguf(digest: str) -> dict[str, Any]:
    """Return the GGUF metadata kept with a blob; empty where it has none."""
    kept = Blob.objects.filter(digest=digest).values_list("gguf", flat=True).first()
    return kept or {}


def is_name_taken(name: ModelName, user_id: int) -> bool:
    """Whether the model of this name, in any spelling, belongs to somebody else."""
    same_name = LanguageModel.objects.filter(
        host__iexact=name.host, namespace__iexact=name.namespace, name__iexact=name.model
    )
    return same_name.exclude(owner_id=user_id).exists()


def has_blob(digest: str) -> bool:
    """Whether some manifest already uses the blob."""
    return Blob.objects.filter(digest=digest).exists()


def has_models() -> bool:
    """Whether the site has any model at all."""
    return Tag.objects.exists()


def _visible_tags(principal: Principal) -> QuerySet[Tag]:
    # The one place that says who sees what. Being an admin opens nobody's private models.
    is_visible = Q(model__visibility=Visibility.EVERYONE) | Q(model__owner_id=principal.user_id)
    return Tag.objects.filter(is_visible).select_related("model", "manifest")


def _record(tag: Tag) -> TagRecord:
    return TagRecord(
        name=tag.full_name,
        owner_id=tag.model.owner_id,
        visibility=tag.model.visibility,
        modified_at=tag.modified_at,
        digest=tag.manifest.digest,
        manifest=bytes(tag.manifest.body),
        config=tag.manifest.config,
        cache_scope=tag.model.cache_scope,
        is_pinned=tag.model.is_pinned,
    )
