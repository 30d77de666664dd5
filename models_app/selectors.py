"""Reads with access applied: which tags a principal may see, and what stands behind them.

Hands out frozen records, never rows. Knows nothing of files, formats and HTTP.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, QuerySet, TextField
from django.db.models.functions import Cast, Lower

from models_app import model_access
from models_app.models import (
    Alias,
    Blob,
    LanguageModel,
    Layer,
    RepositoryBlob,
    Tag,
    Team,
    Upload,
    User,
)
from models_app.names import DEFAULT_HOST, LIBRARY, ModelName
from models_app.permissions import Principal, Verb


@dataclass(frozen=True, slots=True)
class TagRecord:
    """A tag with its model's owner and its manifest.

    `is_allowed`: who asked may do what they asked for; they may see it in any case.
    """

    tag_id: int
    name: ModelName
    owner_id: int | None
    visibility: str
    is_mirror: bool
    modified_at: datetime
    digest: str  # of the manifest, 64 hex
    manifest: bytes
    media_type: str  # of the manifest
    config: dict[str, Any]
    cache_scope: str
    is_pinned: bool
    is_allowed: bool = True
    alias: str = ""  # the name it was found by, where that is an alias


@dataclass(frozen=True, slots=True)
class ListedTag:
    """A tag as lists need it: no manifest, no layers."""

    name: ModelName
    modified_at: datetime
    digest: str  # of the manifest, 64 hex
    size_bytes: int
    config: str  # a JSON object; undecoded, as a thousand models share few of them
    model_id: int
    media_type: str  # of the manifest
    target: ModelName | None = None  # whose tag it is, where the name is an alias


def find_tag(principal: Principal, name: ModelName, verb: Verb = Verb.READ) -> TagRecord | None:
    """Return the tag a name stands for, or None where there is none that the principal may see.

    Names match whatever their case. A bare name means the own namespace first, then the library,
    then an alias. Whether the verb is allowed is told by the record.
    """
    if name.namespace:
        return _find_in(principal, name, [name.namespace], verb)
    found = _find_in(principal, name, [principal.namespace, LIBRARY], verb)
    return found or _find_by_alias(principal, name, verb)


def find_alias(name: ModelName) -> str | None:
    """Return what an alias of this name stands for, in its display form."""
    if name.namespace or name.host != DEFAULT_HOST:
        return None
    aliases = Alias.objects.alias(key=Lower("name")).filter(key=name.short.lower())
    return aliases.values_list("target", flat=True).first()


def is_tag(name: ModelName) -> bool:
    """Whether there is such a model at all, whoever may see it. A bare name means the library."""
    return _tags_named(name, [name.namespace or LIBRARY]).exists()


def media_type_of(name: ModelName) -> str | None:
    """Return of what kind the manifest of a model is, whoever may see it; None: there is none."""
    tags = _tags_named(name, [name.namespace or LIBRARY])
    return tags.values_list("manifest__media_type", flat=True).first()


def _find_by_alias(principal: Principal, name: ModelName, verb: Verb) -> TagRecord | None:
    target = find_alias(name)
    if target is None:
        return None
    asked = ModelName.parse(target)
    # One hop, and nobody's own namespace: an alias means the same for all.
    found = _find_in(principal, asked, [asked.namespace or LIBRARY], verb)
    return None if found is None else replace(found, alias=name.short)


def _find_in(
    principal: Principal, name: ModelName, namespaces: Sequence[str], verb: Verb
) -> TagRecord | None:
    """Return the visible tag of this name in the first of the namespaces that has one."""
    tags = _tags_named(name, namespaces).filter(model_access.may(principal, Verb.READ))
    is_allowed = ExpressionWrapper(model_access.may(principal, verb), output_field=BooleanField())
    ordered = sorted(
        tags.select_related("model", "manifest").annotate(is_allowed=is_allowed),
        key=lambda tag: _nearness(principal, (tag.model.is_mirror, tag.model.owner_id, tag.pk)),
    )
    found = {tag.model.namespace.lower(): tag for tag in ordered}
    keys = (namespace.lower() for namespace in namespaces)
    return next((_record(found[key]) for key in keys if key in found), None)


def _tags_named(name: ModelName, namespaces: Sequence[str]) -> QuerySet[Tag]:
    wanted = [namespace.lower() for namespace in namespaces]
    return (
        Tag.objects.filter(manifest__is_model=True)
        .alias(host_key=Lower("model__host"), model_key=Lower("model__name"))
        .alias(namespace_key=Lower("model__namespace"), tag_key=Lower("name"))
        .filter(host_key=name.host.lower(), namespace_key__in=wanted)
        .filter(model_key=name.model.lower(), tag_key=name.tag.lower())
    )


def visible_tags(principal: Principal, *, named: str = "") -> list[ListedTag]:
    """Return every tag the principal may see, also under its aliases, the newest first.

    `named`: only those of models of this name, in whatever namespace.
    """
    # Columns and no rows: with a thousand models, making rows of them is most of the time.
    is_visible = model_access.may(principal, Verb.READ)
    visible = Tag.objects.filter(is_visible, manifest__is_model=True)
    if named:
        visible = visible.filter(model__name__iexact=named)
    found = visible.values_list(
        *("model__name", "name", "model__namespace", "model__host"),
        *("modified_at", "manifest__digest", "manifest__size_bytes"),
        Cast("manifest__config", TextField()),
        *("model_id", "manifest__media_type"),
        *("model__is_mirror", "model__owner_id", "pk"),
    )
    rows = _without_hidden(principal, list(found))
    tags = [ListedTag(ModelName(*columns[:4]), *columns[4:10]) for columns in rows]
    aliases = _visible_aliases(principal, tags)
    if not aliases:
        return tags
    return sorted([*tags, *aliases], key=lambda tag: tag.modified_at, reverse=True)


def _without_hidden(principal: Principal, rows: list[Any]) -> list[Any]:
    """Leave out tags that cannot be reached: of one name the one counts that `find_tag` finds.

    Rows end with whether they are a mirror, whose they are, and their key.
    """
    if not any(is_mirror for *_, is_mirror, _, _ in rows):
        return rows
    nearest: dict[tuple[str, ...], Any] = {}
    for row in sorted(rows, key=lambda row: _nearness(principal, row[-3:])):
        nearest[tuple(part.lower() for part in row[:4])] = row[-1]
    kept = set(nearest.values())
    return [row for row in rows if row[-1] in kept]


def _nearness(principal: Principal, whose: tuple[bool, int | None, int]) -> tuple[Any, ...]:
    """Return what is greatest for the tag that hides others of its name.

    `whose`: whether it is a mirror, its owner and its key.
    """
    is_mirror, owner_id, key = whose
    # Of the same mirror the own one hides that of somebody who shows theirs to everyone.
    return owner_id == principal.user_id, not is_mirror, -key


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


def is_name_taken(name: ModelName, user_id: int, *, team_id: int | None = None) -> bool:
    """Whether the model of this name, in any spelling, is none of the user's, or of the team's."""
    same_name = LanguageModel.objects.filter(
        host__iexact=name.host, namespace__iexact=name.namespace, name__iexact=name.model
    )
    owned = {"owner_id": user_id} if team_id is None else {"team_id": team_id}
    return same_name.filter(is_mirror=False).exclude(**owned).exists()


def is_mirror_name(name: ModelName) -> bool:
    """Whether a name is another registry's: it has a host, or its namespace is nobody's here."""
    if name.host != DEFAULT_HOST:
        return True
    namespace = name.namespace or LIBRARY
    return not (
        namespace.lower() == LIBRARY
        or User.objects.filter(username__iexact=namespace).exists()
        or Team.objects.filter(name__iexact=namespace).exists()
    )


def may_use_blob(principal: Principal, digest: str) -> bool:
    """Whether the principal has brought this file, or may have a model that it is a layer of.

    To everybody else the file does not exist, whoever's it is.
    """
    if Upload.objects.filter(user_id=principal.user_id, digest=digest).exists():
        return True
    return has_layer(principal, digest)


def has_layer(principal: Principal | None, digest: str) -> bool:
    """Whether the file is a layer of a model whose files the principal, or the site, may have."""
    tags = Tag.objects.filter(manifest__layers__blob__digest=digest)
    if principal is not None:
        tags = tags.filter(model_access.may(principal, Verb.PULL))
    return tags.exists()


def wanted_blobs(digests: Iterable[str]) -> set[str]:
    """Return those of the digests that a manifest, a repository or an upload still needs."""
    asked = list(digests)
    in_models = Layer.objects.filter(blob__digest__in=asked)
    uploaded = Upload.objects.filter(digest__in=asked)
    pushed = RepositoryBlob.objects.filter(digest__in=asked)
    return {
        *in_models.values_list("blob__digest", flat=True),
        *uploaded.values_list("digest", flat=True),
        *pushed.values_list("digest", flat=True),
    }


def has_models() -> bool:
    """Whether the site has any model at all."""
    return Tag.objects.filter(manifest__is_model=True).exists()


def models_for(principal: Principal, verb: Verb) -> QuerySet[LanguageModel]:
    """Return the models with all of whose tags the principal may do this; for this app alone."""
    return LanguageModel.objects.filter(model_access.may(principal, verb, model="", tag=""))


def team_model_names(
    principal: Principal, team_id: int, verb: Verb, *, limit: int
) -> tuple[str, ...]:
    """Return the names of a team's models with which the principal may do this, in order."""
    rows = models_for(principal, verb).filter(team_id=team_id).order_by("name")
    names = rows.values_list("host", "namespace", "name")[:limit]
    return tuple(
        ModelName(host=host, namespace=namespace, model=name).short.rpartition(":")[0]
        for host, namespace, name in names
    )


def find_model(principal: Principal, name: ModelName) -> LanguageModel | None:
    """Return the model of this site that a name stands for, whatever its tag; for this app alone.

    None where there is none that the principal may see. A bare name is looked up as by `find_tag`.
    """
    if name.namespace:
        return _nearest_model(principal, name, [name.namespace])
    found = _nearest_model(principal, name, [principal.namespace, LIBRARY])
    target = None if found else find_alias(name)
    if target is None:
        return found
    asked = ModelName.parse(target)
    return _nearest_model(principal, asked, [asked.namespace or LIBRARY])


def _nearest_model(
    principal: Principal, name: ModelName, namespaces: Sequence[str]
) -> LanguageModel | None:
    """Return the visible model of this name in the first of the namespaces that has one."""
    found = models_for(principal, Verb.READ).alias(namespace_key=Lower("namespace"))
    found = found.filter(host__iexact=name.host, name__iexact=name.model)
    wanted = [namespace.lower() for namespace in namespaces]
    ordered = sorted(
        found.filter(namespace_key__in=wanted).select_related("owner", "team"),
        key=lambda model: _nearness(principal, (model.is_mirror, model.owner_id, model.pk)),
    )
    nearest = {model.namespace.lower(): model for model in ordered}
    return next((nearest[key] for key in wanted if key in nearest), None)


def may_write_over(principal: Principal, name: ModelName, verb: Verb) -> bool:
    """Whether a model of this site has the name, and its rights let the principal do this.

    What a key's patterns say to the name has been decided before.
    """
    unkeyed = replace(principal, model_patterns=())
    same = LanguageModel.objects.filter(
        host__iexact=name.host,
        namespace__iexact=name.namespace or LIBRARY,
        name__iexact=name.model,
        is_mirror=False,
    )
    return same.filter(model_access.may(unkeyed, verb, model="", tag="")).exists()


def _record(tag: Tag) -> TagRecord:
    return TagRecord(
        tag_id=tag.pk,
        name=tag.full_name,
        owner_id=tag.model.owner_id,
        visibility=tag.model.visibility,
        is_mirror=tag.model.is_mirror,
        modified_at=tag.modified_at,
        digest=tag.manifest.digest,
        manifest=bytes(tag.manifest.body),
        media_type=tag.manifest.media_type,
        config=tag.manifest.config,
        cache_scope=tag.model.cache_scope,
        is_pinned=tag.model.is_pinned,
        is_allowed=getattr(tag, "is_allowed", True),
    )
