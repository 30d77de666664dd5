"""Layers for models of tests that `/api/create` cannot make: projectors and adapters.

Their blobs hold no real weights. Knows nothing of engines.
"""

from msgspec import structs

from models_app.models import LanguageModel, Tag
from models_app.names import ModelName
from models_app.services import NewLayer, NewManifest, write_tag
from registry import manifests
from registry.blobs import blob_store
from registry.digest import Digest
from registry.manifests import LayerRef


def add_layer(name: str, media_type: str, body: bytes) -> str:
    """Add a layer to the model of this display name and return the layer's digest, 64 hex."""
    parsed = ModelName.parse(name)
    model = LanguageModel.objects.get(name=parsed.model, namespace=parsed.namespace or "library")
    old = Tag.objects.get(model=model, name=parsed.tag).manifest
    blob = blob_store().write_bytes(body)
    layer = LayerRef(mediaType=media_type, digest=str(blob.digest), size=blob.size_bytes)
    manifest = manifests.parse_manifest(bytes(old.body))
    manifest = structs.replace(manifest, layers=(*manifest.layers, layer))
    printed = manifests.print_manifest(manifest)
    new = NewManifest(
        digest=Digest.of(printed).hex,
        body=printed,
        config=old.config,
        layers=[
            NewLayer(digest=part.blob.hex, size_bytes=part.size, media_type=part.mediaType)
            for part in (manifest.config, *manifest.layers)
        ],
    )
    write_tag(parsed.within(model.namespace), new, owner_id=model.owner_id)
    return blob.digest.hex
