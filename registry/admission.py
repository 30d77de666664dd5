"""Manifests from outside: nothing that was pushed or pulled is usable before it is checked here.

Of every manifest the form is checked, and that its files are there as told. Of one that is a
model also what the site would do with it: its GGUF files are read in a process with limits, its
template is compiled, its other texts are parsed. Other artifacts (OCI image and distribution
specs) are kept for the registry's clients and never run. Knows no HTTP, no names and no rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from models_app.services import NewLayer, NewManifest
from registry import manifests
from registry.blobs import BlobStore, blob_store
from registry.digest import Digest
from registry.errors import GgufError, InvalidManifest, ManifestBlobUnknown
from registry.gguf_process import inspect_blob
from registry.gguf_roles import Role, role_of
from registry.manifests import (
    DOCKER_LIST_TYPE,
    MANIFEST_TYPES,
    MAX_MANIFEST_BYTES,
    MAX_TEXT_BYTES,
    OCI_INDEX_TYPE,
    TEXT_TYPES,
)
from registry.model_config import build_config
from registry.template_check import check_template

# A file's size in bytes where the repository has it, else None.
SizeOf = Callable[[Digest], int | None]

_INDEX_TYPES: Final = frozenset({OCI_INDEX_TYPE, DOCKER_LIST_TYPE})
_MAX_LAYERS: Final = 1024
_MAX_MODEL_LAYERS: Final = 256
_MAX_TEXTS_BYTES: Final = 8 * 1024 * 1024
_MAX_SIZE_BYTES: Final = 2**63 - 1
_MAX_TYPE_CHARS: Final = 120
_MAX_NAME_CHARS: Final = 100
_MAX_ARTIFACT_TYPE_CHARS: Final = 255
# Layers of these types need not be in a registry: their publisher does not allow it. A manifest
# is the same for everybody who names it, so they are never files that it brings with it.
_ELSEWHERE: Final = ("nondistributable", "foreign.diff")
_GGUF_TYPES: Final[Mapping[str, Role]] = {
    manifests.MODEL: Role.MODEL,
    manifests.PROJECTOR: Role.PROJECTOR,
    manifests.ADAPTER: Role.ADAPTER,
    manifests.DRAFT: Role.MODEL,
}


class _Descriptor(msgspec.Struct, frozen=True):
    """What a manifest says of a file or of another manifest."""

    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: int

    @property
    def blob(self) -> Digest:
        return Digest.parse(self.digest)


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of manifests and indexes that mean something here."""

    schema_version: int = 0
    media_type: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    artifact_type: str = ""


def admit(
    body: bytes, *, media_type: str, size_of: SizeOf, must_be_model: bool = False
) -> NewManifest:
    """Check a manifest as it came and return what is to be recorded of it.

    `media_type`: what its sender calls it, perhaps empty. Blocks while files are read. Raises
    InvalidManifest, InvalidDigest, ManifestBlobUnknown, GgufError, InvalidTemplate.
    """
    document = _parse(body)
    actual_type = _media_type(document, media_type)
    if actual_type in _INDEX_TYPES:
        new = _index(document, body, actual_type)
    else:
        new = _image(document, body, actual_type, size_of)
    if must_be_model and not new.is_model:
        raise InvalidManifest(_why_no_model(new))
    return new


def _parse(body: bytes) -> _Document:
    if len(body) > MAX_MANIFEST_BYTES:
        raise InvalidManifest(f"a manifest may have {MAX_MANIFEST_BYTES} bytes at most")
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"invalid manifest: {error}") from error
    if document.schema_version != 2:  # noqa: PLR2004 - the only one there is
        raise InvalidManifest("invalid manifest: schemaVersion must be 2")
    artifact_type = document.artifact_type
    if len(artifact_type) > _MAX_ARTIFACT_TYPE_CHARS or not artifact_type.isprintable():
        raise InvalidManifest("invalid manifest: its artifactType cannot be that")
    return document


def _media_type(document: _Document, told: str) -> str:
    told = told.partition(";")[0].strip().lower()
    if document.media_type and told and told != document.media_type.lower():
        raise InvalidManifest(f"invalid manifest: it is {document.media_type!r} and not {told!r}")
    found = document.media_type or told
    if found not in MANIFEST_TYPES:
        raise InvalidManifest(f"invalid manifest: the media type {found!r} is not supported")
    is_index = found in _INDEX_TYPES
    if is_index and (document.layers is not None or document.config is not None):
        raise InvalidManifest("invalid manifest: an index has no config and no layers")
    if not is_index and document.manifests is not None:
        raise InvalidManifest("invalid manifest: only an index has manifests")
    return found


def _checked(descriptor: _Descriptor) -> _Descriptor:
    """Return a descriptor that may be recorded. Raises InvalidDigest, InvalidManifest."""
    _ = descriptor.blob
    if not 0 <= descriptor.size <= _MAX_SIZE_BYTES:
        raise InvalidManifest("invalid manifest: the size of a file cannot be that")
    if len(descriptor.media_type) > _MAX_TYPE_CHARS or not descriptor.media_type.isprintable():
        raise InvalidManifest("invalid manifest: the media type of a file cannot be that")
    return descriptor


# ------------------------------------------------------------------ indexes and artifacts


def _index(document: _Document, body: bytes, media_type: str) -> NewManifest:
    children = [_checked(child) for child in document.manifests or ()]
    if len(children) > _MAX_LAYERS:
        raise InvalidManifest(f"an index may name {_MAX_LAYERS} manifests at most")
    return NewManifest(
        digest=Digest.of(body).hex,
        body=body,
        layers=(),
        media_type=media_type,
        is_model=False,
        children=[child.blob.hex for child in children],
        subject=_subject(document),
        artifact_type=document.artifact_type,
    )


def _image(document: _Document, body: bytes, media_type: str, size_of: SizeOf) -> NewManifest:
    if document.config is None:
        raise InvalidManifest("invalid manifest: it has no config")
    config, *layers = (_checked(it) for it in (document.config, *(document.layers or ())))
    if len(layers) > _MAX_LAYERS:
        raise InvalidManifest(f"a manifest may have {_MAX_LAYERS} layers at most")
    is_model = any(layer.media_type == manifests.MODEL for layer in layers)
    # What is made of a model and where it is sent has all of its files: none is left out of it.
    files = [it for it in (config, *layers) if is_model or not _may_be_elsewhere(it)]
    for it in files:
        _require_there(it, size_of)
    ggufs: Mapping[str, dict[str, Any]] = {}
    row_config: dict[str, Any] = {}
    if is_model:
        ggufs, row_config = _check_model(config, layers, blob_store())
    return NewManifest(
        digest=Digest.of(body).hex,
        body=body,
        config=row_config,
        layers=[
            NewLayer(
                digest=it.blob.hex,
                size_bytes=it.size,
                media_type=it.media_type,
                gguf=ggufs.get(it.blob.hex),
            )
            for it in files
        ],
        media_type=media_type,
        is_model=is_model,
        subject=_subject(document),
        # The specification's fallback for lists of what refers to something.
        artifact_type=document.artifact_type or config.media_type,
    )


def _may_be_elsewhere(descriptor: _Descriptor) -> bool:
    return any(word in descriptor.media_type for word in _ELSEWHERE)


def _require_there(descriptor: _Descriptor, size_of: SizeOf) -> None:
    size_bytes = size_of(descriptor.blob)
    if size_bytes is None:
        raise ManifestBlobUnknown(descriptor.digest)
    if size_bytes != descriptor.size:
        raise InvalidManifest(
            f"invalid manifest: {descriptor.digest} has {size_bytes} bytes, not {descriptor.size}"
        )


def _subject(document: _Document) -> str:
    return "" if document.subject is None else _checked(document.subject).blob.hex


def _why_no_model(new: NewManifest) -> str:
    if any(layer.media_type == manifests.TENSOR for layer in new.layers):
        return "the model has its weights as single tensors, which this site cannot run: GGUF only"
    return "the manifest is not that of a model that this site can run"


# ------------------------------------------------------------------ models


def _check_model(
    config: _Descriptor, layers: Sequence[_Descriptor], store: BlobStore
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return what the model's GGUF files say, by digest, and its config. Raises as `admit`."""
    if len(layers) > _MAX_MODEL_LAYERS:
        raise InvalidManifest(f"a model may have {_MAX_MODEL_LAYERS} layers at most")
    ggufs = {
        layer.blob.hex: _inspect(layer, store)
        for layer in layers
        if layer.media_type in _GGUF_TYPES
    }
    texts = _texts([config, *layers], store)
    template = "".join(texts.get(manifests.TEMPLATE, ())[-1:])
    check_template(template)
    for text in texts.get(manifests.PARAMS, ()):
        manifests.parse_parameters(text.encode())
    for text in texts.get(manifests.MESSAGES, ()):
        manifests.parse_messages(text.encode())
    weights = next(layer for layer in layers if layer.media_type == manifests.MODEL)
    written = build_config(
        ggufs[weights.blob.hex],
        template=template,
        has_projector=any(layer.media_type == manifests.PROJECTOR for layer in layers),
        named=_named("".join(texts.get(manifests.CONFIG_TYPE, ())[:1])),
    )
    return ggufs, msgspec.to_builtins(written)


def _inspect(layer: _Descriptor, store: BlobStore) -> dict[str, Any]:
    try:
        file = inspect_blob(layer.blob, store=store)
    except GgufError as error:
        raise GgufError(f"{layer.digest}: {error.message}") from error
    if file.split_count > 1:
        raise GgufError(f"{layer.digest}: the file is one part of a model that is split")
    if role_of(file) is not _GGUF_TYPES[layer.media_type]:
        raise GgufError(f"{layer.digest}: the file is not what its media type says")
    return file.to_json()


def _texts(descriptors: Sequence[_Descriptor], store: BlobStore) -> dict[str, list[str]]:
    """Return the texts of a model by media type, in order. Raises InvalidManifest."""
    wanted = [it for it in descriptors if it.media_type in TEXT_TYPES]
    is_too_large = any(it.size > MAX_TEXT_BYTES for it in wanted)
    if is_too_large or sum(it.size for it in wanted) > _MAX_TEXTS_BYTES:
        raise InvalidManifest(f"the texts of a model may have {_MAX_TEXTS_BYTES} bytes at most")
    found: dict[str, list[str]] = {}
    for it in wanted:
        with store.open(it.blob) as file:
            text = file.read(it.size).decode("utf-8", "replace")
        found.setdefault(it.media_type, []).append(text)
    return found


def _named(config: str) -> dict[str, str]:
    """Return what a config asks for by name. Raises InvalidManifest."""
    try:
        decoded = msgspec.json.decode(config or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidManifest(f"invalid manifest: its config is no JSON object: {error}") from error
    named = {name: decoded.get(name) or "" for name in ("renderer", "parser", "requires")}
    for name, value in named.items():
        is_name = isinstance(value, str) and value.isprintable() and len(value) <= _MAX_NAME_CHARS
        if not is_name:
            raise InvalidManifest(f"invalid manifest: {name} in its config is not a name")
    return named
