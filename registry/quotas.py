"""How much a namespace may hold: asked before bytes are taken. Knows no HTTP and no file.

What a new version replaces counts until it is gone, as both lie on the disk. Two who ask at the
same moment may both be let in: a quota keeps somebody from filling the disk, it is no lock.
"""

from collections.abc import Mapping

from django.conf import settings

from models_app import namespaces
from models_app.names import ModelName
from registry.errors import QuotaFull


def require_quota(namespace: str, new_bytes: int) -> None:
    """Raise QuotaFull where so many more bytes would be more than the namespace may hold."""
    quota_bytes = quota_of(namespace)
    if quota_bytes is not None and namespaces.stored_bytes(namespace) + new_bytes > quota_bytes:
        raise QuotaFull(namespace, quota_bytes)


def require_room(name: ModelName, owner_id: int | None, sizes: Mapping[str, int]) -> None:
    """Raise QuotaFull where a model's owner may not hold its files, given by digest (64 hex).

    Those that their namespace has already take no room. `name` is where the model is written.
    """
    namespace = namespaces.charged_namespace(name, owner_id)
    if namespace is None or quota_of(namespace) is None:
        return
    require_quota(namespace, namespaces.missing_bytes(namespace, sizes))


def quota_of(namespace: str) -> int | None:
    """Return how many bytes a namespace may hold; None: there is no limit."""
    return namespaces.quota_of(namespace, default=settings.NAMESPACE_QUOTA_BYTES)
