"""Engines elsewhere and this site's models: look at an engine, and serve a model of one by a name.

A served model is a manifest of this site's own kind without weights; its config says what it can
do. Everything that leaves the machine goes through `ollamasite.outbound`. Knows no HTTP of ours.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from models_app import audit, selectors, services, upstreams
from models_app.authority import require_admin
from models_app.errors import InvalidUpstream
from models_app.names import ModelName
from models_app.permissions import Principal
from models_app.services import NewLayer, NewManifest
from models_app.upstreams import Look, Serving, UpstreamSettings
from ollamasite.errors import OutboundFailed, OutboundRefused, ServiceError
from ollamasite.outbound.client import Caps, OutboundClient
from ollamasite.outbound.hosts import AllowedHosts
from ollamasite.outbound.urls import parse_url
from registry import manifests, removal, served
from registry.blobs import blob_store
from registry.digest import Digest
from registry.library import write_target
from registry.manifests import Config

CAPABILITIES: Final = ("completion", "tools", "insert", "vision", "embedding", "thinking")
DEFAULT_CAPABILITIES: Final = ("completion", "tools")
DEFAULT_CONTEXT_TOKENS: Final = 8192
_MOST_CONTEXT_TOKENS: Final = 2**24
_MOST_NAME: Final = 400
LOOK_EVERY_S: Final = 9.0
_LOOK_CAPS: Final = Caps(body_bytes=4 * 1024 * 1024, connect_s=3.0, read_s=4.0, total_s=5.0)
_OK: Final = 200
_REFUSED: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewServed:
    """A model of an engine, and as what it is served here.

    `context_length` None: what the engine tells.
    """

    upstream: str
    model: str
    name: str
    capabilities: Sequence[str] = DEFAULT_CAPABILITIES
    context_length: int | None = None


class _Meta(msgspec.Struct, frozen=True):
    n_ctx: int | None = None  # llama.cpp


class _Offer(msgspec.Struct, frozen=True):
    id: str
    max_model_len: int | None = None  # vLLM, SGLang
    context_length: int | None = None  # others
    meta: _Meta | None = None

    @property
    def context_tokens(self) -> int | None:
        found = self.max_model_len or (self.meta and self.meta.n_ctx) or self.context_length
        return found if found and 0 < found <= _MOST_CONTEXT_TOKENS else None


class _Offers(msgspec.Struct, frozen=True):
    data: list[_Offer]


# ------------------------------------------------------------------ engines


def add_upstream(by: Principal | None, name: str, settings: UpstreamSettings) -> None:
    """Add an engine. Raises Forbidden, InvalidUpstream."""
    upstreams.add(name, _with_whole_url(settings), by=by)


def change_upstream(by: Principal | None, name: str, settings: UpstreamSettings) -> None:
    """Change how an engine is reached and used. Raises Forbidden, UpstreamNotFound, ….

    What else is raised: InvalidUpstream.
    """
    upstreams.change(name, _with_whole_url(settings), by=by)


def look_now(by: Principal | None, name: str) -> Look:
    """Look at an engine and note what is seen. Blocks. Raises Forbidden, UpstreamNotFound."""
    require_admin(by)
    [look] = _look_at([upstreams.find(name)])
    return look


def look_in_time() -> None:
    """Look at every engine whose turn it is. Blocks for some seconds at most."""
    _look_at(upstreams.due(LOOK_EVERY_S))


def ask(found: Sequence[Serving]) -> list[Look]:
    """Return how engines are, without a note of it. Blocks for some seconds at most."""
    return asyncio.run(_look_at_all(found)) if found else []


def _look_at(found: Sequence[Serving]) -> list[Look]:
    looks = ask(found)
    for serving, look in zip(found, looks, strict=True):
        upstreams.note_look(serving.name, look, url=serving.url)
    return looks


async def _look_at_all(found: Sequence[Serving]) -> list[Look]:
    return list(await asyncio.gather(*map(_look, found)))


async def _look(serving: Serving) -> Look:
    """Ask an engine for its models."""
    if not serving.is_key_readable:
        return Look(
            problem="its key cannot be read: OLLAMASITE_SECRET_KEY has changed; set it again"
        )
    target = parse_url(serving.url)
    origin = f"{target.scheme}://{target.authority}"
    hosts = AllowedHosts.parse([origin], private=[origin])
    headers = {"authorization": f"Bearer {serving.key}"} if serving.key else {}
    try:
        async with OutboundClient(hosts, _LOOK_CAPS) as client:
            sending = client.stream("GET", f"{serving.url}/models", headers=headers, follow=False)
            async with sending as answer:
                return _read_look(answer.status, await answer.read())
    except OutboundFailed as error:
        return Look(problem=error.message)


def _read_look(status: int, body: bytes) -> Look:
    if status in _REFUSED:
        return Look(problem="it refuses the key")
    if status != _OK:
        return Look(problem=f"it answers /models with the status {status}")
    try:
        offers = msgspec.json.decode(body, type=_Offers)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Look(problem="it answers /models with something else than a list of models")
    # Others could not be served, and a database refuses some of them.
    named = (offer for offer in offers.data if offer.id.isprintable())
    told = ({"id": o.id[:_MOST_NAME], "context_length": o.context_tokens} for o in named)
    return Look(offers=tuple(told))


def _with_whole_url(settings: UpstreamSettings) -> UpstreamSettings:
    """Return the settings with a URL that has been read and ends where the routes begin."""
    if not settings.url:
        return settings
    try:
        target = parse_url(settings.url.strip())
        AllowedHosts.parse([f"{target.scheme}://{target.authority}"])
    except (OutboundRefused, ValueError) as error:
        words = error.message if isinstance(error, ServiceError) else "the URL names no host"
        raise InvalidUpstream(words) from error
    if "?" in target.path or "#" in settings.url:
        raise InvalidUpstream("the URL of an engine has no query")
    path = target.path.rstrip("/") or "/v1"
    url = f"{target.scheme}://{target.authority}{path}"
    return UpstreamSettings(
        url=url,
        kind=settings.kind,
        concurrency=settings.concurrency,
        first_s=settings.first_s,
        silence_s=settings.silence_s,
        key=settings.key,
    )


# ------------------------------------------------------------------ models


def serve_model(by: Principal | None, new: NewServed) -> ModelName:
    """Serve a model of an engine by a name, and return the name as it is stored.

    A name that is served already is served by this from now on. Raises Forbidden, InvalidUpstream,
    UpstreamNotFound, InvalidModelName, NotYourModel, TagIsImmutable.
    """
    require_admin(by)
    serving = upstreams.find(new.upstream)
    if not new.model or len(new.model) > _MOST_NAME or not new.model.isprintable():
        raise InvalidUpstream("a model of an engine has a name of at most 400 characters")
    if unknown := sorted(set(new.capabilities) - set(CAPABILITIES)):
        raise InvalidUpstream(f"there is no capability {unknown[0]!r}")
    if not {"completion", "embedding"} & set(new.capabilities):
        raise InvalidUpstream("a model answers or embeds: name one of the two capabilities")
    target = write_target(by, ModelName.parse(new.name))
    _require_free(target)
    store = blob_store()
    try:
        with store.in_use(), audit.act():
            written = _manifest(new, serving)
            name = services.write_tag(target, written, owner_id=by.user_id if by else None)
            upstreams.record_served(written.digest, serving.name, new.model)
            audit.record("upstream.serve", name.short, by=by, engine=serving.name, model=new.model)
    finally:
        removal.remove_unused(store.added)
    return name


def _require_free(target: ModelName) -> None:
    """Raise InvalidUpstream where a model with files of its own has the name."""
    if selectors.media_type_of(target) not in {None, manifests.UPSTREAM_TYPE}:
        raise InvalidUpstream(f"there is already a model '{target.short}': delete it first")


def _manifest(new: NewServed, serving: Serving) -> NewManifest:
    config = Config(
        model_format="upstream",
        model_family=serving.kind,
        model_families=(serving.kind,),
        model_type="",
        file_type="",
        capabilities=tuple(name for name in CAPABILITIES if name in new.capabilities),
        context_length=_context_length(new),
        architecture="amd64",
        os="linux",
    )
    manifest = served.new_manifest(config, (), blob_store())
    written = manifests.print_manifest(manifest)
    own = manifest.config
    return NewManifest(
        digest=Digest.of(written).hex,
        body=written,
        config=msgspec.to_builtins(config),
        layers=[NewLayer(digest=own.blob.hex, size_bytes=own.size, media_type=own.mediaType)],
        media_type=manifest.mediaType,
    )


def _context_length(new: NewServed) -> int:
    if new.context_length is not None:
        if not 0 < new.context_length <= _MOST_CONTEXT_TOKENS:
            raise InvalidUpstream("a context has 1 to 16,777,216 tokens")
        return new.context_length
    for offer in upstreams.offers_of(new.upstream):
        if offer.get("id") == new.model and offer.get("context_length"):
            return int(offer["context_length"])
    return DEFAULT_CONTEXT_TOKENS
