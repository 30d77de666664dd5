"""Reads with access applied: which tags a principal may see, and what stands behind them.

Hands out frozen records, never rows. Knows nothing of files, formats and HTTP.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast, Lower

from models_app.models import Alias, Blob, LanguageModel, Layer, Tag, Upload, Visibility
from models_app.names import DEFAULT_HOST, LIBRARY, ModelName
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
    alias: str = ""  # the name it was found by, where that is an alias


@dataclass(frozen=True, slots=True)
class ListedTag:
    """A tag as lists need it: no manifest, no layers."""

    name: ModelName
    modified_at: datetime
    digest: str  # of the manifest, 64 hex
    size_bytes: int
    config: str  # a JSON object; undecoded, as a thousand models share few of them
    target: ModelName | None = None  # whose tag it is, where the name is an alias


def find_tag(principal: Principal, name: ModelName) -> TagRecord | None:
    """Return the tag a name stands for, or None where there is none that the principal may see.

    Names match whatever their case. A bare name means the own namespace first, then the library,
    then an alias.
    """
    if name.namespace:
        return _find_in(principal, name, [name.namespace])
    found = _find_in(principal, name, [principal.namespace, LIBRARY])
    return found or _find_by_alias(principal, name)


def find_alias(name: ModelName) -> str | None:
    """Return what an alias of this name stands for, in its display form."""
    if name.namespace or name.host != DEFAULT_HOST:
        return None
    aliases = Alias.objects.alias(key=Lower("name")).filter(key=name.short.lower())
    return aliases.values_list("target", flat=True).first()


def is_tag(name: ModelName) -> bool:
    """Whether there is such a model at all, whoever may see it. A bare name means the library."""
    return _tags_named(name, [name.namespace or LIBRARY]).exists()


def _find_by_alias(principal: Principal, name: ModelName) -> TagRecord | None:
    target = find_alias(name)
    if target is None:
        return None
    asked = ModelName.parse(target)
    # One hop, and nobody's own namespace: an alias means the same for all.
    found = _find_in(principal, asked, [asked.namespace or LIBRARY])
    return None if found is None else replace(found, alias=name.short)


def _find_in(principal: Principal, name: ModelName, namespaces: Sequence[str]) -> TagRecord | None:
    """Return the visible tag of this name in the first of the namespaces that has one."""
    tags = _tags_named(name, namespaces).filter(_is_visible(principal))
    found = {tag.model.namespace.lower(): tag for tag in tags.select_related("model", "manifest")}
    keys = (namespace.lower() for namespace in namespaces)
    return next((_record(found[key]) for key in keys if key in found), None)


def _tags_named(name: ModelName, namespaces: Sequence[str]) -> QuerySet[Tag]:
    wanted = [namespace.lower() for namespace in namespaces]
    return (
        Tag.objects.alias(host_key=Lower("model__host"), model_key=Lower("model__name"))
        .alias(namespace_key=Lower("model__namespace"), tag_key=Lower("name"))
        .filter(host_key=name.host.lower(), namespace_key__in=wanted)
        .filter(model_key=name.model.lower(), tag_key=name.tag.lower())
    )


def visible_tags(principal: Principal) -> list[ListedTag]:
    """Return every tag the principal may see, also under its aliases, the newest first."""
    # Columns and no rows: with a thousand models, making rows of them is most of the time.
    found = Tag.objects.filter(_is_visible(principal)).values_list(
        *("model__name", "name", "model__namespace", "model__host"),
        *("modified_at", "manifest__digest", "manifest__size_bytes"),
        Cast("manifest__config", TextField()),
    )
    tags = [ListedTag(ModelName(*columns[:4]), *columns[4:]) for columns in found]
    aliases = _visible_aliases(principal, tags)
    if not aliases:
        return tags
    return sorted([*tags, *aliases], key=lambda tag: tag.modified_at, reverse=True)


def _visible_aliases(principal: Principal, tags: Sequence[ListedTag]) -> list[ListedTag]:
    """Return tags under the aliases by which the principal reaches them."""
    pairs = list(Alias.objects.values_list("name", "target"))
    if not pairs:
        return []
    by_name = {tag.name.full.lower(): tag for tag in tags}
    listed: list[ListedTag] = []
    for alias, target in pairs:
        name = ModelName.parse(alias)
        nearer = (name.within(namespace) for namespace in (principal.namespace, LIBRARY))
        tag = by_name.get(ModelName.parse(target).full.lower())
        if tag is not None and not any(name.full.lower() in by_name for name in nearer):
            listed.append(replace(tag, name=name, target=tag.name))
    return listed


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


def may_use_blob(principal: Principal, digest: str) -> bool:
    """Whether the principal has brought this file, or may see a model that it is a layer of.

    To everybody else the file does not exist, whoever's it is.
    """
    if Upload.objects.filter(user_id=principal.user_id, digest=digest).exists():
        return True
    return has_layer(principal, digest)


def has_layer(principal: Principal | None, digest: str) -> bool:
    """Whether the file is a layer of a model that the principal, or the site (None), may see."""
    tags = Tag.objects.filter(manifest__layers__blob__digest=digest)
    return (tags if principal is None else tags.filter(_is_visible(principal))).exists()


def wanted_blobs(digests: Iterable[str]) -> set[str]:
    """Return those of the digests that some manifest or somebody's upload still needs."""
    asked = list(digests)
    in_models = Layer.objects.filter(blob__digest__in=asked)
    uploaded = Upload.objects.filter(digest__in=asked)
    return {
        *in_models.values_list("blob__digest", flat=True),
        *uploaded.values_list("digest", flat=True),
    }


def has_models() -> bool:
    """Whether the site has any model at all."""
    return Tag.objects.exists()


def _is_visible(principal: Principal) -> Q:
    # The one place that says who sees what. Being an admin opens nobody's private models.
    return Q(model__visibility=Visibility.EVERYONE) | Q(model__owner_id=principal.user_id)


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
