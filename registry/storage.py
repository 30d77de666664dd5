"""What somebody's namespaces hold, and may hold. Knows no HTTP."""

from dataclasses import dataclass

from models_app import namespaces
from models_app.names import LIBRARY
from models_app.permissions import Principal, TeamRole, may_write_library
from registry import quotas


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceUse:
    """Bytes of a namespace. `quota_bytes` is None where there is no limit."""

    namespace: str
    used_bytes: int
    quota_bytes: int | None


def own_namespaces(principal: Principal) -> list[NamespaceUse]:
    """Return the use of the namespaces to which somebody writes, their own first."""
    names = [principal.namespace]
    teams = (place.name for place in principal.teams)
    names += [name for name in teams if principal.reaches_in(name, TeamRole.MAINTAINER)]
    if may_write_library(principal):
        names.append(LIBRARY)
    return [
        NamespaceUse(
            namespace=name,
            used_bytes=namespaces.stored_bytes(name),
            quota_bytes=quotas.quota_of(name),
        )
        for name in names
    ]
