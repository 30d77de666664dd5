"""Which of the loaded models one may know of. Pure: knows no HTTP, no engine and no database."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from msgspec import structs

from inference.messages import LoadedModel
from models_app.model_access import is_within_key, may_write_namespace
from models_app.names import DEFAULT_HOST, LIBRARY, ModelName
from models_app.permissions import Principal


class NamedModel(Protocol):
    """A model of somebody's list."""

    @property
    def name(self) -> str:
        """The name it has there."""

    @property
    def digest(self) -> str:
        """The manifest's digest."""


N = TypeVar("N", bound=NamedModel)


def visible_loaded(
    principal: Principal, loaded: Iterable[LoadedModel], listed: Sequence[N]
) -> list[LoadedModel]:
    """Return the loaded models that a principal may know of; `listed` are those they may see.

    The engine knows one name per runner, the one it was loaded under. It is shown to whom it
    belongs, even when it has been deleted since (contract 11); others see a name that the model has
    in their own list, as the first may be somebody else's private one.
    """
    names: dict[str, list[str]] = {}
    for entry in listed:
        names.setdefault(entry.digest, []).append(entry.name)
    visible = []
    for model in loaded:
        own = names.get(model.digest, [])
        if model.name in own or _is_own_name(principal, model.name):
            visible.append(model)
        elif own:
            visible.append(structs.replace(model, name=own[0]))
    return visible


def _is_own_name(principal: Principal, name: str) -> bool:
    parsed = ModelName.parse(name)
    if parsed.host != DEFAULT_HOST or not is_within_key(principal, parsed):
        return False
    return may_write_namespace(principal, parsed.namespace or LIBRARY)
