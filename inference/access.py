"""A request to the engine ends when its caller's access does.

Knows no engine and no HTTP: it is told how to end what runs.
"""

from collections.abc import Callable

from models_app import access_watch
from models_app.access_watch import Watch
from models_app.errors import AccessEnded
from models_app.permissions import Principal
from ollamasite.errors import ServiceError
from registry.library import ResolvedModel


def watch(
    principal: Principal, model: ResolvedModel, fail: Callable[[ServiceError], None]
) -> Watch:
    """Have `fail` called with AccessEnded once the caller may not use the model any longer.

    Close what is returned when the request has ended.
    """
    namespace = model.full_name.split("/")[-2]
    return access_watch.watch(principal, lambda: fail(AccessEnded()), namespace=namespace)
