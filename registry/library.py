"""The models there are: resolve, list, copy, delete, and where one may write.

`resolve` is the only way from a name to a model, so access cannot be skipped: what one may not
see answers exactly like what does not exist. Knows no HTTP and no wire shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from models_app import audit, model_access, selectors, services, upstreams
from models_app.errors import InvalidModelName, ModelNotFound
from models_app.names import DEFAULT_HOST, LIBRARY, ModelName
from models_app.permissions import Principal, Verb, may_write_library
from models_app.selectors import ListedTag, TagRecord
from models_app.upstreams import Serving
from registry import manifests, quotas, removal
from registry.blobs import blob_store
from registry.capabilities import capabilities_of, with_parser
from registry.digest import Digest
from registry.errors import (
    CopySourceNotFound,
    InvalidManifest,
    IsAlias,
    NameIsInvalid,
    NotYourModel,
    ServedElsewhere,
)
from registry.manifests import LayerRef, Manifest

_CACHED_MODELS: Final = 128
_CACHED_CONFIGS: Final = 4096
_MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
DOING: Final[Mapping[Verb, str]] = {
    Verb.READ: "see",
    Verb.USE: "use",
    Verb.PULL: "copy or download",
    Verb.PUSH: "push to",
    Verb.MANAGE: "change",
}


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What lists tell about a model, in the wire's field order."""

    parent_model: str
    format: str
    family: str
    families: tuple[str, ...] | None
    parameter_size: str
    quantization_level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContents:
    """What a manifest says. Shared between requests: the mappings are for reading only."""

    manifest: Manifest
    weights: str  # digest of the GGUF layer, 64 hex
    parent_model: str
    template: str
    system: str
    parameters: Mapping[str, Any]
    messages: tuple[tuple[str, str], ...]  # role, content
    license: tuple[str, ...]
    projector: str  # digest of the GGUF layer that lets it see, 64 hex; empty: none
    adapters: tuple[str, ...]  # digests of its LoRA layers, 64 hex
    gguf: Mapping[str, Any]  # as GgufFile.to_json
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel(ModelContents):
    """A model that the caller may use as asked."""

    name: str  # display form, as stored
    full_name: str
    digest: str  # of the manifest, 64 hex
    config: Mapping[str, Any]
    modified_at: datetime
    cache_scope: str  # of models_app's CacheScope
    is_pinned: bool
    serving: Serving | None = None  # the engine elsewhere that has it; None: its files are here

    @property
    def details(self) -> ModelDetails:
        """What show tells in `details`."""
        return _details(self.config, self.parent_model)

    @property
    def size_bytes(self) -> int:
        """The size of all its layers; of what an engine elsewhere serves there is nothing here."""
        return 0 if self.serving else self.manifest.size_bytes

    @property
    def weights_path(self) -> Path:
        """Where the GGUF file is."""
        return blob_store().path(Digest(self.weights))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ListedConfig:
    details: ModelDetails
    context_length: int | None
    embedding_length: int | None
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model in a list: what can be told without opening a layer."""

    name: str
    namespace: str
    model_id: int  # of the model whose tag it is
    digest: str
    size_bytes: int
    modified_at: datetime
    details: ModelDetails
    context_length: int | None
    embedding_length: int | None
    capabilities: tuple[str, ...]
    is_alias: bool = False

    @property
    def parameter_size(self) -> str:
        """The number of weights as people read it."""
        return self.details.parameter_size

    @property
    def quantization_level(self) -> str:
        """`Q4_1`, …."""
        return self.details.quantization_level


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredManifest:
    """A model's manifest as it was written or received."""

    name: ModelName  # as it is stored
    body: bytes
    media_type: str


def stored_manifest(principal: Principal, name: str | ModelName) -> StoredManifest:
    """Return the manifest of a model whose files the principal may have.

    Raises as `resolve`, and ServedElsewhere.
    """
    record = _find(principal, name, Verb.PULL)
    if record.media_type == manifests.UPSTREAM_TYPE:
        raise ServedElsewhere(record.name.short)
    return StoredManifest(name=record.name, body=record.manifest, media_type=record.media_type)


def resolve(principal: Principal, name: str | ModelName, verb: Verb) -> ResolvedModel:
    """Return the model that a name stands for, if the principal may do this with it.

    Raises InvalidModelName; ModelNotFound, which names a text as it was given and a ModelName in
    its display form; NotYourModel.
    """
    record = _find(principal, name, verb)
    serving = None
    if record.media_type == manifests.UPSTREAM_TYPE:
        serving = upstreams.serving(record.digest)
    contents = _contents(record.manifest) if serving is None else _served_contents(record)
    known = {field.name: getattr(contents, field.name) for field in fields(contents)}
    known["capabilities"] = with_parser(contents.capabilities, record.config.get("parser") or "")
    return ResolvedModel(
        **known,
        name=record.name.short,
        full_name=record.name.full,
        digest=record.digest,
        config=record.config,
        modified_at=record.modified_at,
        cache_scope=record.cache_scope,
        is_pinned=record.is_pinned,
        serving=serving,
    )


def list_models(principal: Principal, *, named: str = "") -> list[ListedModel]:
    """Return the models that the principal may see, the newest first.

    `named`: only those of this name, in whatever namespace and with whatever tag.
    """
    return [_listed(tag) for tag in selectors.visible_tags(principal, named=named)]


def copy_model(principal: Principal, source: str, destination: str) -> None:
    """Give a model one more name, or point an existing one at it.

    Raises NameIsInvalid, CopySourceNotFound, NotYourModel, QuotaFull, TagIsImmutable.
    """
    source_name = _parse_exactly("source", source)
    target = _parse_exactly("destination", destination)
    record = selectors.find_tag(principal, source_name, Verb.PULL)
    if record is None:
        raise CopySourceNotFound(source)
    _require_allowed(record, Verb.PULL)
    target = write_target(principal, target)
    if target.full.lower() == record.name.full.lower():
        return
    manifest = manifests.parse_manifest(record.manifest)
    quotas.require_room(target, principal.user_id, manifest.sizes)
    with audit.act():
        services.copy_tag(record.digest, target, owner_id=principal.user_id)
        audit.record_model_act("model.copy", target, by=principal, source=record.name.short)
    removal.remove_unused()


def delete_model(principal: Principal, name: str) -> None:
    """Delete a name, and what no other name needs of its model; a loaded model stays loaded.

    Raises NameIsInvalid, ModelNotFound, NotYourModel, TagIsImmutable; IsAlias, as an alias is no
    name of one's own.
    """
    record = selectors.find_tag(principal, _parse_exactly("name", name), Verb.MANAGE)
    if record is None:
        raise ModelNotFound(name)
    if record.alias:
        raise IsAlias(record.alias, record.name.short)
    _require_allowed(record, Verb.MANAGE)
    with audit.act():
        if not services.delete_tag(record.tag_id):
            raise ModelNotFound(name)  # somebody else has been quicker
        audit.record_model_act("model.delete", record.name, by=principal)
    removal.remove_unused()


def write_target(
    principal: Principal | None, name: ModelName, verb: Verb = Verb.MANAGE
) -> ModelName:
    """Return the whole name under which a principal, or the site itself (None), writes.

    A bare name goes to the library for those who may write there, else to the own namespace.
    Under the name of another registry everybody has models of their own. Elsewhere there has to be
    a model with which one may do what `verb` says: PUSH, which is of all of its tags, or MANAGE.
    Raises NotYourModel.
    """
    if principal is None:
        return name.within(LIBRARY)
    if name.host != DEFAULT_HOST:
        target = name.within(name.namespace or LIBRARY)
        if not model_access.is_within_key(principal, target):
            raise _not_writable(target)
        return target
    first = LIBRARY if may_write_library(principal) else principal.namespace
    target = name.within(name.namespace or first)
    if not model_access.is_within_key(principal, target, is_whole=verb is Verb.PUSH):
        raise _not_writable(target)
    if not (_may_create(principal, target) or selectors.may_write_over(principal, target, verb)):
        raise _not_writable(target)
    return target


def pull_target(principal: Principal, name: ModelName) -> ModelName:
    """Return the whole name under which a model is stored that another registry has.

    As `write_target`; besides, a namespace that is nobody's here is the other registry's. Raises
    NotYourModel.
    """
    if name.namespace and selectors.is_mirror_name(name):
        if not model_access.is_within_key(principal, name):
            raise _not_writable(name)
        return name
    return write_target(principal, name)


def _may_create(principal: Principal, target: ModelName) -> bool:
    """Whether one may write to a namespace, and no model of the name is there from before."""
    namespace = target.namespace or LIBRARY
    if not model_access.may_write_namespace(principal, namespace):
        return False
    if namespace.lower() == LIBRARY:
        return True
    place = principal.place_in(namespace)
    team_id = place.team_id if place else None
    return not selectors.is_name_taken(target, principal.user_id, team_id=team_id)


def _not_writable(target: ModelName) -> NotYourModel:
    return NotYourModel(f"you may not write to the namespace '{target.namespace}'")


def _find(principal: Principal, name: str | ModelName, verb: Verb) -> TagRecord:
    shown = name if isinstance(name, str) else name.short
    if not shown.strip():
        raise ModelNotFound(shown)
    parsed = ModelName.parse(name) if isinstance(name, str) else name
    record = selectors.find_tag(principal, parsed, verb)
    if record is None:
        raise ModelNotFound(shown)
    _require_allowed(record, verb)
    return record


def _parse_exactly(field: str, text: str) -> ModelName:
    # Unlike other routes, copy and delete do not overlook blanks (contract section 11, 4.7).
    if text != text.strip():
        raise NameIsInvalid(field, text)
    try:
        return ModelName.parse(text)
    except InvalidModelName as error:
        raise NameIsInvalid(field, text) from error


def _require_allowed(record: TagRecord, verb: Verb) -> None:
    """Raise NotYourModel for what one may see and not do this with."""
    if not record.is_allowed:
        raise NotYourModel(f"you may not {DOING[verb]} the model '{record.name.short}'")


@lru_cache(maxsize=_CACHED_MODELS)
def _contents(manifest_body: bytes) -> ModelContents:
    """Return what a manifest says; everything in it is named by its hash, so it never changes."""
    manifest = manifests.parse_manifest(manifest_body)
    weights = next(iter(manifest.of_type(manifests.MODEL)), None)
    if weights is None:
        raise InvalidManifest("the model has no weights")
    gguf = selectors.blob_gguf(weights.blob.hex)
    projector = next((layer.blob.hex for layer in manifest.of_type(manifests.PROJECTOR)), "")
    template = _text(manifest, manifests.TEMPLATE)
    return ModelContents(
        **_texts(manifest),
        weights=weights.blob.hex,
        parent_model=weights.source,
        template=template,
        projector=projector,
        adapters=tuple(layer.blob.hex for layer in manifest.of_type(manifests.ADAPTER)),
        gguf=gguf,
        capabilities=capabilities_of(
            gguf.get("architecture", ""),
            gguf.get("metadata", {}),
            template,
            has_projector=bool(projector),
        ),
    )


def _texts(manifest: Manifest) -> dict[str, Any]:
    """Return the fields that need no weights: what the layers say in words and numbers."""
    parameters = _bytes(manifest, manifests.PARAMS)
    messages = _bytes(manifest, manifests.MESSAGES)
    return {
        "manifest": manifest,
        "system": _text(manifest, manifests.SYSTEM),
        "parameters": manifests.parse_parameters(parameters) if parameters else {},
        "messages": manifests.parse_messages(messages) if messages else (),
        "license": tuple(_to_text(_read(layer)) for layer in manifest.of_type(manifests.LICENSE)),
    }


@lru_cache(maxsize=_CACHED_MODELS)
def _served_texts(manifest_body: bytes) -> Mapping[str, Any]:
    return _texts(manifests.parse_manifest(manifest_body))


def _served_contents(record: TagRecord) -> ModelContents:
    """Return what is known of a model whose weights are elsewhere: its config and its texts."""
    family = record.config.get("model_family", "")
    context_length = record.config.get("context_length", 0)
    metadata = {"general.architecture": family, f"{family}.context_length": context_length}
    texts = _served_texts(record.manifest)
    return ModelContents(
        **texts,
        weights="",
        parent_model=texts["manifest"].config.source,
        template="",
        projector="",
        adapters=(),
        gguf={"architecture": family, "metadata": metadata, "context_length": context_length},
        capabilities=tuple(record.config.get("capabilities", ())),
    )


def _bytes(manifest: Manifest, media_type: str) -> bytes:
    layers = manifest.of_type(media_type)
    return _read(layers[-1]) if layers else b""


def _text(manifest: Manifest, media_type: str) -> str:
    return _to_text(_bytes(manifest, media_type))


def _to_text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _read(layer: LayerRef) -> bytes:
    with blob_store().open(layer.blob) as file:
        body = file.read(_MAX_TEXT_BYTES + 1)
    if len(body) > _MAX_TEXT_BYTES:
        raise InvalidManifest(f"the layer {layer.digest} is larger than {_MAX_TEXT_BYTES} bytes")
    return body


def _listed(tag: ListedTag) -> ListedModel:
    config = _listed_config(tag.config)
    return ListedModel(
        name=tag.name.short,
        namespace=(tag.target or tag.name).namespace or LIBRARY,
        model_id=tag.model_id,
        digest=tag.digest,
        size_bytes=0 if tag.media_type == manifests.UPSTREAM_TYPE else tag.size_bytes,
        modified_at=tag.modified_at,
        details=config.details,
        context_length=config.context_length,
        embedding_length=config.embedding_length,
        capabilities=config.capabilities,
        is_alias=tag.target is not None,
    )


@lru_cache(_CACHED_CONFIGS)
def _listed_config(text: str) -> _ListedConfig:
    config = msgspec.json.decode(text)
    return _ListedConfig(
        details=_details(config, ""),
        context_length=config.get("context_length"),
        embedding_length=config.get("embedding_length"),
        capabilities=tuple(config.get("capabilities", ())),
    )


def _details(config: Mapping[str, Any], parent_model: str) -> ModelDetails:
    families = config.get("model_families")
    return ModelDetails(
        parent_model=parent_model,
        format=config.get("model_format", ""),
        family=config.get("model_family", ""),
        families=tuple(families) if families else None,
        parameter_size=config.get("model_type", ""),
        quantization_level=config.get("file_type", ""),
    )
