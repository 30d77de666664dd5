"""Which of the loaded models one may know of. Pure: knows no HTTP, no engine and no database."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from msgspec import structs

from inference.messages import LoadedModel


class NamedModel(Protocol):
    """A model of somebody's list."""

    @property
    def name(self) -> str:
        """The name it has there."""

    @property
    def digest(self) -> str:
        """The manifest's digest."""


N = TypeVar("N", bound=NamedModel)


def visible_loaded(loaded: Iterable[LoadedModel], listed: Sequence[N]) -> list[LoadedModel]:
    """Return the loaded models that are in one's list, under a name they have there.

    The engine knows one name per runner, and it may be somebody else's private one.
    """
    names: dict[str, list[str]] = {}
    for model in listed:
        names.setdefault(model.digest, []).append(model.name)
    return [
        model
        if model.name in names[model.digest]
        else structs.replace(model, name=names[model.digest][0])
        for model in loaded
        if model.digest in names
    ]
