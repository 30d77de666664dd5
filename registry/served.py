"""Models that engines elsewhere serve, as they are stored: a manifest without weights.

Its kind is this site's own, and its config has a text that nobody can guess, so nobody can push the
same bytes. Which engine it is stands in a table and in no file. Knows no HTTP and no engine.
"""

import secrets
from typing import Final

import msgspec
from msgspec import structs

from models_app import upstreams
from models_app.upstreams import Serving
from registry import manifests
from registry.blobs import BlobStore
from registry.create_source import layer_of
from registry.errors import InvalidCreate
from registry.library import ResolvedModel
from registry.manifests import Config, LayerRef, Manifest

# What a Modelfile may not say on top of such a model, by the field that it comes in.
_ENGINES_OWN: Final = {
    "adapters": "ADAPTER",
    "quantize": "quantizing",
    "template": "TEMPLATE",
    "renderer": "RENDERER",
    "parser": "PARSER",
}


def new_manifest(
    config: Config, layers: tuple[LayerRef, ...], store: BlobStore, *, source: str = ""
) -> Manifest:
    """Store a config and return the manifest over it; `source` is the model it was made from."""
    body = {**msgspec.to_builtins(config), "seal": secrets.token_hex(16)}
    stored = layer_of(store.write_bytes(msgspec.json.encode(body)), manifests.CONFIG_TYPE)
    return Manifest(
        mediaType=manifests.UPSTREAM_TYPE,
        config=structs.replace(stored, source=source),
        layers=layers,
    )


def config_upon(base: ResolvedModel, *, requires: str) -> Config:
    """Return the config of a model that is made from one which an engine serves."""
    config = msgspec.convert(base.config, Config)
    return structs.replace(config, requires=requires or config.requires)


def require_words_only(base: ResolvedModel, wanted: object) -> None:
    """Raise InvalidCreate for what needs the weights; `wanted` is a NewContents."""
    for field, keyword in _ENGINES_OWN.items():
        if getattr(wanted, field):
            raise InvalidCreate(
                f"'{base.name}' is served by another engine, which has its weights and its "
                f"template: {keyword} is not possible here"
            )


def record(digest: str, serving: Serving) -> None:
    """Note what serves a manifest; within the act that writes its tag.

    Raises InvalidCreate, UpstreamNotFound.
    """
    if not serving.name:
        raise InvalidCreate("the engine that served this model was removed from this site")
    upstreams.record_served(digest, serving.name, serving.model)
