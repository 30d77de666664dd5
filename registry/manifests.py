"""Manifests, configs and the JSON layers: parse and print (contract/registry.md 1.3).

A manifest's digest is the SHA-256 of its bytes as they were written or received, so a parsed one
is never printed again under its old digest. Ours are written as Go does: compact, `<`, `>` and `&`
escaped, keys of free objects sorted, a newline at the end. Knows nothing of the store.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ollamasite.http import encode_json
from registry.digest import Digest
from registry.errors import InvalidManifest

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
_LAYER_PREFIX: Final = "application/vnd.ollama.image."
MODEL: Final = f"{_LAYER_PREFIX}model"
PROJECTOR: Final = f"{_LAYER_PREFIX}projector"
ADAPTER: Final = f"{_LAYER_PREFIX}adapter"
TEMPLATE: Final = f"{_LAYER_PREFIX}template"
SYSTEM: Final = f"{_LAYER_PREFIX}system"
PARAMS: Final = f"{_LAYER_PREFIX}params"
MESSAGES: Final = f"{_LAYER_PREFIX}messages"
LICENSE: Final = f"{_LAYER_PREFIX}license"
DRAFT: Final = f"{_LAYER_PREFIX}draft"
TENSOR: Final = f"{_LAYER_PREFIX}tensor"
# What a model has in words and numbers, read as a whole and kept in memory when it is used.
TEXT_TYPES: Final = frozenset(
    {TEMPLATE, SYSTEM, PARAMS, MESSAGES, LICENSE, CONFIG_TYPE},
)
OCI_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST_TYPE: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
# Of a model that an engine elsewhere serves: made by this site alone, and given to nobody.
UPSTREAM_TYPE: Final = "application/vnd.ollamasite.upstream.v1+json"
# Every kind of manifest that is taken here, from others' registries as well.
MANIFEST_TYPES: Final = (MANIFEST_TYPE, OCI_MANIFEST_TYPE, DOCKER_LIST_TYPE, OCI_INDEX_TYPE)
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
# The most that a layer which is held in memory as a whole may have.
MAX_TEXT_BYTES: Final = 4 * 1024 * 1024


class LayerRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A layer's entry. `source` is the model it was taken from (`from` on the wire)."""

    mediaType: str  # noqa: N815 - the wire's name
    digest: str
    size: int
    source: str = msgspec.field(default="", name="from")
    name: str = ""

    @property
    def blob(self) -> Digest:
        """The layer's digest. Raises InvalidDigest."""
        return Digest.parse(self.digest)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest in the wire's field order."""

    schemaVersion: int = 2  # noqa: N815 - the wire's name
    mediaType: str = MANIFEST_TYPE  # noqa: N815 - the wire's name
    config: LayerRef
    layers: tuple[LayerRef, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all layers and of the config."""
        return self.config.size + sum(layer.size for layer in self.layers)

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each of its files by its digest, 64 hex. Raises InvalidDigest."""
        return {layer.blob.hex: layer.size for layer in (self.config, *self.layers)}

    def of_type(self, media_type: str) -> tuple[LayerRef, ...]:
        """Return the layers of a media type, in order."""
        return tuple(layer for layer in self.layers if layer.mediaType == media_type)


class Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config blob: what lists show without opening a layer."""

    model_format: str
    model_family: str
    model_families: tuple[str, ...]
    model_type: str
    file_type: str
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0
    architecture: str
    os: str


class StoredMessage(msgspec.Struct, frozen=True):
    """One line of the messages layer."""

    role: str
    content: str = ""


def print_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's bytes."""
    return encode_json(manifest) + b"\n"


def parse_manifest(body: bytes) -> Manifest:
    """Parse a manifest. Raises InvalidManifest, also for a bad digest or size in it."""
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"invalid manifest: {error}") from error
    for layer in (manifest.config, *manifest.layers):
        if layer.size < 0:
            raise InvalidManifest("invalid manifest: a layer's size is negative")
        _ = layer.blob
    return manifest


def print_config(config: Config) -> bytes:
    """Return the config blob's bytes."""
    return encode_json(config) + b"\n"


def print_parameters(parameters: Mapping[str, Any]) -> bytes:
    """Return the params layer's bytes."""
    return encode_json(dict(sorted(parameters.items()))) + b"\n"


def print_messages(messages: Sequence[tuple[str, str]]) -> bytes:
    """Return the messages layer's bytes from pairs of role and content."""
    return encode_json([StoredMessage(role, content) for role, content in messages]) + b"\n"


def parse_parameters(body: bytes) -> dict[str, Any]:
    """Parse a params layer. Raises InvalidManifest."""
    parameters: dict[str, Any] = _parse_layer(body, dict[str, Any], "parameters")
    return parameters


def parse_messages(body: bytes) -> tuple[tuple[str, str], ...]:
    """Parse a messages layer into pairs of role and content. Raises InvalidManifest."""
    messages = _parse_layer(body, list[StoredMessage], "messages")
    return tuple((message.role, message.content) for message in messages)


def _parse_layer(body: bytes, expected: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(body, type=expected)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"invalid {what} layer: {error}") from error
