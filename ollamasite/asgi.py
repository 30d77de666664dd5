"""The ASGI application: context, proxy, headers, CORS, guard, files → Django, Channels or blobs.

Knows no feature. Static files are served here and not by a view, so that they need neither a
thread nor the gate.
"""

from pathlib import Path
from typing import Any, Final

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.sessions import SessionMiddlewareStack
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.asgi import get_asgi_application
from django.urls import re_path
from servestatic.asgi import ServeStaticASGI  # type: ignore[import-untyped]

from ollamasite.access_log import AccessLog
from ollamasite.cors import Cors
from ollamasite.forwarded_proto import ForwardedProto
from ollamasite.guard import Guard
from ollamasite.key_handler import KeyHandler, carries_key
from ollamasite.request_context import RequestContext
from ollamasite.request_threads import lent_threads
from ollamasite.security_headers import SecurityHeaders
from ollamasite.socket_edge import SocketEdge

# Apps are loaded here; what follows imports their models.
_django = get_asgi_application()
_with_key = KeyHandler()

from inference.routing import websocket_urlpatterns as inference_sockets  # noqa: E402 - see above
from registry import blob_app, distribution_app, node_blob_app  # noqa: E402 - see above
from registry.routing import websocket_urlpatterns as registry_sockets  # noqa: E402 - see above

NO_SUCH_SOCKET: Final = 4404


async def _http(scope: Any, receive: Any, send: Any) -> None:
    async with lent_threads():
        await _answer(scope, receive, send)


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    if blob_app.is_upload(scope):
        await blob_app.serve(scope, receive, send)
        return
    if node_blob_app.is_node_blob_request(scope):
        await node_blob_app.serve(scope, receive, send)
        return
    if distribution_app.is_blob_request(scope):
        await distribution_app.serve(scope, receive, send)
        return
    handler = _with_key if carries_key(scope) else _django
    await handler(scope, receive, send)


def _body_limit(scope: Any) -> int:
    limit: int = settings.MAX_BODY_BYTES
    if blob_app.is_upload(scope) or distribution_app.is_blob_request(scope):
        limit = settings.MAX_BLOB_BYTES
    return limit


async def _refuse_socket(scope: Any, receive: Any, send: Any) -> None:
    # Without this, Channels answers an unknown path with a traceback.
    del scope
    await receive()
    await send({"type": "websocket.close", "code": NO_SUCH_SOCKET})


def _static_folders() -> list[Path]:
    """Return the folders of Django's static finders, the one that wins last."""
    folders = [
        Path(storage.location)
        for finder in get_finders()
        for storage in getattr(finder, "storages", {}).values()
    ]
    return [folder for folder in reversed(folders) if folder.is_dir()]


def _add_headers(headers: Any, path: str, url: str) -> None:
    del path, url
    headers["X-Content-Type-Options"] = "nosniff"


def _with_static_files(application: Any) -> Any:
    served = ServeStaticASGI(
        application,
        autorefresh=settings.DEBUG,
        allow_all_origins=False,
        add_headers_function=_add_headers,
    )
    for folder in _static_folders():
        served.add_files(folder, prefix=settings.STATIC_URL)
    return served


_no_such_route: Any = _refuse_socket
_routes: Any = [*inference_sockets, *registry_sockets, re_path("", _no_such_route)]
# Who is there is asked by the consumer, which can be refused an answer.
_sockets = SocketEdge(SessionMiddlewareStack(URLRouter(_routes)))
_guarded = Guard(
    _with_static_files(ProtocolTypeRouter({"http": _http, "websocket": _sockets})),
    site_hosts=settings.SITE_HOSTS,
    body_limit=_body_limit,
)
application = RequestContext(
    AccessLog(ForwardedProto(SecurityHeaders(Cors(_guarded, origins=settings.ORIGINS))))
)
