"""Create a model: from uploaded GGUF files, or from another model with some layers changed.

The starter model, `/api/create` and whatever else makes a model come through here. Merge rules
and status lines: contract/ollama.md 4.5. Knows no HTTP; templates are not executed here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from models_app import audit, selectors, services
from models_app.names import ModelName
from models_app.permissions import Principal
from models_app.services import NewLayer, NewManifest
from registry import create_source, manifests, progress, quantize, quotas, removal, served
from registry.blobs import BlobStore, blob_store
from registry.create_source import Source, layer_of
from registry.digest import Digest
from registry.errors import InvalidCreate
from registry.known_templates import known_template
from registry.library import ResolvedModel, write_target
from registry.manifests import Config, LayerRef, Manifest
from registry.model_config import build_config
from registry.progress import Progress, Report
from registry.template_check import check_template

# What a model may have many of is added to; of everything else the new one replaces the old.
_MANY: Final = frozenset({manifests.LICENSE})
_MAX_LAYERS: Final = 256
_FILES: Final = frozenset({manifests.MODEL, manifests.PROJECTOR, manifests.ADAPTER})
# The other layers are read as a whole and kept in memory when the model is used.
_MAX_TEXTS_BYTES: Final = 8 * 1024 * 1024
_MAX_NAME_CHARS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NewContents:
    """What a model is made of, its base excepted.

    Empty texts, and messages that are None, leave what the base has. `files` and `adapters` are
    uploaded blobs by their relative path; `files` without any is not the same as no `files`.
    """

    files: Mapping[str, Digest] | None = None
    adapters: Mapping[str, Digest] | None = None
    template: str = ""
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    license: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] | None = None
    quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateModel(NewContents):
    """What to create. Either `base` or `files` says where the weights come from.

    `principal` is None where the site itself writes to its library. Files are not looked at
    where there is a base.
    """

    name: str
    principal: Principal | None
    base: ResolvedModel | None = None


def create_model(request: CreateModel, *, report: Report = progress.ignore) -> ModelName:
    """Create or overwrite a model and return its name as it is stored.

    Blocks, for minutes where weights are quantized. Nothing is visible before the end. Raises
    InvalidModelName, NotYourModel, InvalidCreate, InvalidTemplate, BlobNotFound, GgufError,
    StorageFull, QuotaFull, QuantizeFailed, TagIsImmutable.
    """
    target = write_target(request.principal, ModelName.parse(request.name))
    _check_texts(request)
    store = blob_store()
    try:
        name = _store_model(request, target, store, report)
    finally:
        # What the name stood for until now, and what was stored on the way only.
        removal.remove_unused(store.added)
    report(Progress(status="success"))
    return name


def _store_model(
    request: CreateModel, target: ModelName, store: BlobStore, report: Report
) -> ModelName:
    owner_id = request.principal.user_id if request.principal else None
    # Now, as a full namespace makes minutes of work useless, and again when the sizes are known.
    quotas.require_room(target, owner_id, {})
    source = _source(request, store, report)
    # From here on nothing that the model needs is removed by somebody else.
    with store.in_use():
        _require_files(source, store)
        own = _own_layers(request, source, report)
        completed = _completed(request, source, report)
        added = _added(completed, source, own, store)
        for layer in added:
            # Of a template that is known by sight its name has been told.
            if layer.mediaType != manifests.TEMPLATE or completed is request:
                _report_layer(layer, request.principal, report)
        layers = own + added
        config = _config(completed, source, layers)
        manifest = _manifest(request, config, layers, store)
        quotas.require_room(target, owner_id, manifest.sizes)
        report(Progress(status="writing manifest"))
        written = _new_manifest(manifest, config, source.ggufs)
        return _write(target, written, request, owner_id)


def _write(
    target: ModelName, written: NewManifest, request: CreateModel, owner_id: int | None
) -> ModelName:
    serving = request.base.serving if request.base else None
    if serving is None:
        return services.write_tag(target, written, owner_id=owner_id)
    with audit.act():
        name = services.write_tag(target, written, owner_id=owner_id)
        served.record(written.digest, serving)
        return name


def _check_texts(request: CreateModel) -> None:
    """Refuse what could be stored and not be used afterwards. Raises InvalidCreate."""
    if request.template:
        check_template(request.template)
    if request.quantize:
        quantize.parse_kind(request.quantize)
    for field_name in ("renderer", "parser", "requires"):
        text = getattr(request, field_name)
        if len(text) > _MAX_NAME_CHARS or not text.isprintable():
            raise InvalidCreate(f"{field_name} is not a name")


def _source(request: CreateModel, store: BlobStore, report: Report) -> Source:
    if request.base is not None:
        if request.base.serving is not None:
            served.require_words_only(request.base, request)
        source = create_source.source_of_model(request.base)
    elif request.files is not None:
        source = create_source.source_of_files(request.files, store, report)
    else:
        raise InvalidCreate("neither 'from' or 'files' was specified")
    if request.adapters is not None:
        source = create_source.with_adapters(source, request.adapters, store, report)
    if request.quantize:
        source = create_source.quantized(source, request.quantize, store, report)
    return source


def _require_files(source: Source, store: BlobStore) -> None:
    """Raise BlobNotFound if a file was removed while others were read."""
    for layer in source.layers:
        store.size_bytes(layer.blob)


# ------------------------------------------------------------------ layers


def _own_layers(request: CreateModel, source: Source, report: Report) -> tuple[LayerRef, ...]:
    """Return the source's layers that stay, and tell of them."""
    replaced = {media_type for media_type, _ in _given_layers(request, source)} - _MANY
    layers = tuple(layer for layer in source.layers if layer.mediaType not in replaced)
    for layer in layers:
        _report_layer(layer, request.principal, report)
    return layers


def _completed(request: CreateModel, source: Source, report: Report) -> CreateModel:
    """Return the request with the template that its file is known by, where it names none."""
    if request.base is not None or request.template or request.renderer:
        return request
    jinja = source.gguf["metadata"].get("tokenizer.chat_template")
    known = known_template(jinja) if isinstance(jinja, str) else None
    if known is None:
        return request
    report(Progress(status=f"using autodetected template {known.name}"))
    parameters = {"stop": list(known.stop), **request.parameters}
    return replace(request, template=known.go_template, parameters=parameters)


def _added(
    request: CreateModel, source: Source, own: tuple[LayerRef, ...], store: BlobStore
) -> tuple[LayerRef, ...]:
    """Store what the request brings and return its layers. Raises InvalidCreate."""
    added = list(_added_layers(request, source))
    if len(own) + len(added) > _MAX_LAYERS:
        raise InvalidCreate(f"a model may have {_MAX_LAYERS} layers at most")
    kept_bytes = sum(layer.size for layer in own if layer.mediaType not in _FILES)
    if kept_bytes + sum(len(body) for _, body in added) > _MAX_TEXTS_BYTES:
        raise InvalidCreate(f"the texts of a model may have {_MAX_TEXTS_BYTES} bytes at most")
    return tuple(layer_of(store.write_bytes(body), media_type) for media_type, body in added)


def _added_layers(request: CreateModel, source: Source) -> Iterator[tuple[str, bytes]]:
    for media_type, body in _given_layers(request, source):
        if len(body) > manifests.MAX_TEXT_BYTES:
            kind = media_type.rpartition(".")[2]
            raise InvalidCreate(f"the {kind} is larger than {manifests.MAX_TEXT_BYTES} bytes")
        yield media_type, body


def _given_layers(request: CreateModel, source: Source) -> Iterator[tuple[str, bytes]]:
    if request.template:
        yield manifests.TEMPLATE, request.template.encode()
    if request.system:
        yield manifests.SYSTEM, request.system.encode()
    for text in request.license:
        yield manifests.LICENSE, text.encode()
    given = {name: value for name, value in request.parameters.items() if value is not None}
    if given:
        yield manifests.PARAMS, manifests.print_parameters({**source.parameters, **given})
    if request.messages is not None:
        yield manifests.MESSAGES, manifests.print_messages(request.messages)


def _report_layer(layer: LayerRef, principal: Principal | None, report: Report) -> None:
    # A layer that only others have is new to the caller, who could guess at their texts else.
    what = "using existing" if selectors.has_layer(principal, layer.blob.hex) else "creating new"
    report(Progress(status=f"{what} layer {layer.digest}"))


# ------------------------------------------------------------------ config and rows


def _manifest(
    request: CreateModel, config: Config, layers: tuple[LayerRef, ...], store: BlobStore
) -> Manifest:
    if request.base is not None and request.base.serving is not None:
        return served.new_manifest(config, layers, store, source=request.base.name)
    stored = store.write_bytes(manifests.print_config(config))
    return Manifest(config=layer_of(stored, manifests.CONFIG_TYPE), layers=layers)


def _config(request: CreateModel, source: Source, layers: tuple[LayerRef, ...]) -> Config:
    if request.base is not None and request.base.serving is not None:
        return served.config_upon(request.base, requires=request.requires)
    named = {
        name: getattr(request, name) or source.config.get(name, "")
        for name in ("renderer", "parser", "requires")
    }
    return build_config(
        source.gguf,
        template=request.template or source.template,
        has_projector=any(layer.mediaType == manifests.PROJECTOR for layer in layers),
        named=named,
    )


def _new_manifest(
    manifest: Manifest, config: Config, ggufs: Mapping[str, Mapping[str, Any]]
) -> NewManifest:
    body = manifests.print_manifest(manifest)
    return NewManifest(
        digest=Digest.of(body).hex,
        body=body,
        config=msgspec.to_builtins(config),
        layers=[
            NewLayer(
                digest=layer.blob.hex,
                size_bytes=layer.size,
                media_type=layer.mediaType,
                gguf=_gguf_of(layer, ggufs),
            )
            for layer in (manifest.config, *manifest.layers)
        ],
        media_type=manifest.mediaType,
    )


def _gguf_of(layer: LayerRef, ggufs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    found = ggufs.get(layer.blob.hex)
    return dict(found) if found is not None else None
