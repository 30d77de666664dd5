"""Who is on a WebSocket, and whether they may stay.

Knows no message: what is said on a socket is its consumer's own affair.
"""

import asyncio
import contextlib
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user

from models_app import access_watch, key_uses
from models_app.access_watch import Watch
from models_app.auth import principal_of_scope
from models_app.errors import TooManyAttempts
from models_app.permissions import CredentialKind, Principal
from models_app.policy import WEBSOCKETS
from ollamasite import leaving
from ollamasite.errors import Unauthenticated
from ollamasite.request_record import note_caller, note_route
from ollamasite.socket_edge import CLOSE_INTERNAL_ERROR, CLOSE_TRY_LATER

CLOSE_UNAUTHENTICATED: Final = 4401
CLOSE_FORBIDDEN: Final = 4403
# RFC 6455's registry: the server goes, come again.
CLOSE_SERVICE_RESTART: Final = 1012
_LAST_WORDS_S: Final = 0.5


class AdmittedConsumer(AsyncWebsocketConsumer):
    """Base of the sockets: `route` is the row of the policy table that says who may be there."""

    # No consumer is sent to through a layer, so none is opened for it.
    channel_layer_alias = "none"
    route: ClassVar[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch: Watch | None = None
        self._closing: asyncio.Task[None] | None = None
        self._sending_on: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the socket; what it has begun ends with it, also where it fails."""
        try:
            await super().__call__(scope, receive, send)
        except BaseException:
            await self.disconnect(CLOSE_INTERNAL_ERROR)
            raise

    async def connect(self) -> None:
        """Accept, so that the closing code reaches the page, and close where nobody may be.

        Whoever is there is seen out when their access ends, and sent on when this process goes.
        Where it cannot be found out who is there, nothing is accepted: raises DatabaseError.
        """
        note_route(self.route)
        found = await self._who()
        await self.accept()
        principal = await self._let_in(found)
        if principal is not None:
            self._watch = access_watch.watch(principal, self._see_out)
            leaving.listen(self._process_leaves)
            await self.admitted(principal)

    async def disconnect(self, code: int) -> None:
        """Watch nobody any longer."""
        leaving.forget(self._process_leaves)
        if self._watch is not None:
            self._watch.close()
        if self._sending_on is not None:
            self._sending_on.cancel()

    def _see_out(self) -> None:
        self._closing = asyncio.create_task(self._close_behind_last_words())

    async def _close_behind_last_words(self) -> None:
        """Close; what runs has lost its access at the same time, and says so first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self.wait_until_free()
        await self.close(CLOSE_UNAUTHENTICATED)

    def _process_leaves(self) -> None:
        self._sending_on = asyncio.create_task(self._send_on())

    async def _send_on(self) -> None:
        await self.wait_until_free()
        await self.close(CLOSE_SERVICE_RESTART)

    async def wait_until_free(self) -> None:
        """Wait until nothing is left to be said that this process alone can say."""

    async def admitted(self, principal: Principal) -> None:
        """Say or start what comes first."""

    async def admit(self) -> Principal | None:
        """Return who is there, or close the socket and return None.

        Worth asking again: a key may have been revoked, a session ended, since.
        """
        return await self._let_in(await self._who())

    async def _who(self) -> Principal | int:
        """Return who is there; the code to close with where nobody may be."""
        try:
            principal: Principal = await database_sync_to_async(_authenticate)(self.scope)
        except Unauthenticated:
            return CLOSE_UNAUTHENTICATED
        except TooManyAttempts:
            return CLOSE_TRY_LATER
        note_caller(principal.user_id, principal.key_id)
        key_uses.write_soon()
        is_foreign = principal.kind is CredentialKind.SESSION and not _is_same_site(self.scope)
        if is_foreign or not WEBSOCKETS[self.route].admits(principal, "GET"):
            return CLOSE_FORBIDDEN
        return principal

    async def _let_in(self, found: Principal | int) -> Principal | None:
        if isinstance(found, int):
            await self.close(found)
            return None
        return found


def _authenticate(scope: Any) -> Principal:
    # The session is read anew each time: it may have ended since the socket opened.
    store = import_module(settings.SESSION_ENGINE).SessionStore
    session = store(scope["session"].session_key)
    asking: Any = SimpleNamespace(session=session)
    return principal_of_scope({**scope, "session": session, "user": get_user(asking)})


def _is_same_site(scope: Any) -> bool:
    headers = dict(scope["headers"])
    origin = urlsplit(headers.get(b"origin", b"").decode("latin-1"))
    return bool(origin.netloc) and origin.netloc == headers.get(b"host", b"").decode("latin-1")
