"""What a GGUF file is to a model: its weights, its projector, an adapter. Knows no store."""

import enum
from collections.abc import Mapping
from typing import Final

from registry.errors import GgufError
from registry.gguf import GgufFile

_PROJECTOR_ARCHITECTURE: Final = "clip"


class Role(enum.Enum):
    """What a GGUF file is to a model."""

    MODEL = "model"
    PROJECTOR = "projector"
    ADAPTER = "adapter"


# `general.type` of a GGUF file; one that does not say is a model.
_ROLES: Final[Mapping[str, Role]] = {
    "model": Role.MODEL,
    "mmproj": Role.PROJECTOR,
    "projector": Role.PROJECTOR,
    "adapter": Role.ADAPTER,
}


def role_of(file: GgufFile) -> Role:
    """Return what a file is to a model. Raises GgufError where it is none of a model's."""
    if file.architecture == _PROJECTOR_ARCHITECTURE:
        return Role.PROJECTOR
    kind = file.metadata.get("general.type") or "model"
    role = _ROLES.get(kind) if isinstance(kind, str) else None
    if role is None:
        raise GgufError(f"a GGUF file of the type {str(kind)[:40]!r} is not part of a model")
    return role
