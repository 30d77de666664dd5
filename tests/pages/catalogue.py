"""People and models for tests of pages, recorded through the site's own services. Knows no page."""

import hashlib
from typing import Final

import msgspec

from models_app.accounts import create_user
from models_app.names import LIBRARY, ModelName
from models_app.services import NewLayer, NewManifest, write_tag
from registry import manifests
from registry.manifests import Config, LayerRef, Manifest

PASSWORD: Final = "a quiet evening walk"
STARTER: Final = "smollm2:135m"
LONG_NAME: Final = "alice/a-model-with-a-very-long-name-that-nobody-would-type-twice:q4_K_M"


def fill() -> str:
    """Create alice, who runs the site and has a model of her own, bob, and the library.

    Returns the digest of the starter model.
    """
    alice = create_user("alice", PASSWORD, is_admin=True)
    create_user("bob", PASSWORD)
    add_model("nomic-embed-text:v1.5", capabilities=("embedding",), context_length=2048)
    add_model(LONG_NAME, owner_id=alice.pk, size_bytes=42_520_000_000, context_length=131_072)
    return add_model(STARTER)


def add_model(
    name: str,
    *,
    owner_id: int | None = None,
    size_bytes: int = 144_811_234,
    context_length: int = 8192,
    capabilities: tuple[str, ...] = ("completion",),
) -> str:
    """Record a model without files and return its manifest's digest."""
    config = Config(
        model_format="gguf",
        model_family="llama",
        model_families=("llama",),
        model_type="134.52M",
        file_type="Q4_1",
        capabilities=capabilities,
        context_length=context_length,
        architecture="amd64",
        os="linux",
    )
    body = manifests.print_config(config)
    config_hex = hashlib.sha256(body).hexdigest()
    weights_hex = hashlib.sha256(name.encode()).hexdigest()
    manifest = Manifest(
        config=_layer(manifests.CONFIG_TYPE, config_hex, len(body)),
        layers=(_layer(manifests.MODEL, weights_hex, size_bytes - len(body)),),
    )
    written = manifests.print_manifest(manifest)
    digest = hashlib.sha256(written).hexdigest()
    parsed = ModelName.parse(name)
    new = NewManifest(
        digest=digest,
        body=written,
        config=msgspec.to_builtins(config),
        layers=[
            NewLayer(digest=layer.blob.hex, size_bytes=layer.size, media_type=layer.mediaType)
            for layer in (manifest.config, *manifest.layers)
        ],
    )
    write_tag(parsed.within(parsed.namespace or LIBRARY), new, owner_id=owner_id)
    return digest


def _layer(media_type: str, hex_digest: str, size_bytes: int) -> LayerRef:
    return LayerRef(mediaType=media_type, digest=f"sha256:{hex_digest}", size=size_bytes)
