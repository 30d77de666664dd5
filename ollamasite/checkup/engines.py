"""Whether engines elsewhere answer now, and have the models that are served from them."""

from collections.abc import Iterator

from models_app import upstreams
from models_app.upstreams import Look, Serving
from ollamasite.checkup.findings import Finding, error, warning
from registry.upstreams import ask


def look() -> Iterator[Finding]:
    """Ask each engine that should serve."""
    enabled = upstreams.enabled()
    for engine, seen in zip(enabled, ask(enabled), strict=True):
        if seen.problem:
            yield error(
                "upstream.down",
                f"The engine {engine.name} at {engine.url} serves nothing: {seen.problem}.",
                "See that it runs, that this machine reaches it and that its key is right (under "
                f"/admin/), or switch it off (`ollamasite upstreams --disable {engine.name}`).",
            )
        else:
            yield from _models_of(engine, seen)


def _models_of(engine: Serving, seen: Look) -> Iterator[Finding]:
    offered = {offer["id"] for offer in seen.offers}
    missing = [name for name in upstreams.served_models(engine.name) if name not in offered]
    if missing and offered:  # some tell none of theirs
        yield warning(
            "upstream.model",
            f"The engine {engine.name} does not tell of {', '.join(missing)}, which it is to "
            "serve here.",
            "Start it with that model, or serve one that it has under the same name "
            "(`ollamasite serve-upstream`).",
        )
