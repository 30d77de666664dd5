"""What is open ends when its caller's access does: answers, sockets, uploads, looks at jobs.

    watch(principal, on_ended)          calls back once, for what has its own way to end
    async with access_kept(principal):  raises AccessEnded out of the block
    async for … in while_access(…):     raises AccessEnded between two items

Access has ended when the key was revoked or has expired, when the session is over, when the client
key is gone, when the account is closed, or when the caller has left the team that the thing is
about. One query asks for everything that is open in an event loop, every `LOOK_EVERY_S` seconds
while anything is. What somebody may do is not asked again: whoever does more is admitted anew.
Knows no HTTP and no model.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable
from contextlib import aclosing, asynccontextmanager
from contextvars import Context
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import CharField, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from models_app.errors import AccessEnded
from models_app.models import ApiKey, ClientKey, Membership, User
from models_app.permissions import Principal
from ollamasite import outages
from ollamasite.request_threads import lent_threads

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY_S: Final = 0.3

# What access hangs on: a kind of row and its id, as text.
_Condition = tuple[str, str]
_KNOWN: Final = "known"


class Watch:
    """One open thing. `close` it when it is over."""

    def __init__(
        self,
        conditions: frozenset[_Condition],
        on_ended: Callable[[], None],
        watches: "set[Watch]",
    ) -> None:
        self.conditions = conditions
        self.has_ended = False
        self._on_ended = on_ended
        self._watches = watches
        watches.add(self)

    def close(self) -> None:
        """Watch no longer. Safe to call more than once."""
        self._watches.discard(self)

    def end(self) -> None:
        """Say that access has ended. Only the first call counts."""
        self.close()
        if not self.has_ended:
            self.has_ended = True
            self._on_ended()


def watch(principal: Principal, on_ended: Callable[[], None], *, namespace: str = "") -> Watch:
    """Have `on_ended` called once, on this event loop, when access has ended.

    `namespace`: of what is used; where it is a team's of the caller, leaving the team ends it too.
    """
    return _looker().watch(_conditions_of(principal, namespace), on_ended)


@asynccontextmanager
async def access_kept(principal: Principal, *, namespace: str = "") -> AsyncIterator[None]:
    """Do something for as long as its caller's access lasts. Raises AccessEnded out of it."""
    cut = _Cut()
    watched = watch(principal, cut.make, namespace=namespace)
    try:
        with cut:
            yield
    finally:
        watched.close()


async def while_access(
    principal: Principal, items: AsyncGenerator[T, None]
) -> AsyncGenerator[T, None]:
    """Yield what `items` yields. Raises AccessEnded when access has ended; closes `items`."""
    cut = _Cut()
    watched = watch(principal, cut.make)
    try:
        async with aclosing(items):
            while True:
                with cut:
                    item = await anext(items, _END)
                if item is _END:
                    return
                yield item
    finally:
        watched.close()


_END: Final[Any] = object()


class _Cut:
    """Cancels whoever is in its block, and makes an AccessEnded of it; made once and for all."""

    def __init__(self) -> None:
        self._is_made = False
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0

    def make(self) -> None:
        self._is_made = True
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> None:
        if self._is_made:
            raise AccessEnded
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task, self._task = self._task, None
        if not self._is_made or task is None:
            return
        # Somebody else may have cancelled the task as well: then it is theirs (as in
        # asyncio.timeout).
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise AccessEnded


class _Looker:
    """Looks after everything that is open in one event loop."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None

    def watch(self, conditions: frozenset[_Condition], on_ended: Callable[[], None]) -> Watch:
        watched = Watch(conditions, on_ended, self._watches)
        if self._task is None or self._task.done():
            # Nothing of the request that happens to be the first: neither its thread, which ends
            # with it, nor its id.
            self._task = asyncio.create_task(self._run(), context=Context())
        return watched

    async def _run(self) -> None:
        async with lent_threads():
            await self._look()

    async def _look(self) -> None:
        await asyncio.sleep(LOOK_EVERY_S)
        while self._watches:
            asked = frozenset(item for watched in self._watches for item in watched.conditions)
            held = await sync_to_async(_held_or_all)(asked)
            for watched in list(self._watches):
                # What has been opened meanwhile is asked for next time.
                if (watched.conditions & asked) - held:
                    watched.end()
            await asyncio.sleep(LOOK_EVERY_S)


_lookers: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Looker]" = WeakKeyDictionary()


def _looker() -> _Looker:
    loop = asyncio.get_running_loop()
    looker = _lookers.get(loop)
    if looker is None:
        looker = _lookers[loop] = _Looker()
    return looker


def _conditions_of(principal: Principal, namespace: str) -> frozenset[_Condition]:
    user = principal.user_id
    found: list[_Condition] = [("user", str(user))]
    if principal.key_id is not None:
        found.append(("key", str(principal.key_id)))
    if principal.client_key_id is not None:
        found.append(("client key", str(principal.client_key_id)))
    if principal.session is not None:
        session_key, known = principal.session
        found += [("session", session_key), (_KNOWN, f"{user} {known}")]
    found += [
        ("place", f"{user} {place.team_id}")
        for place in principal.teams
        if namespace and place.name.lower() == namespace.lower()
    ]
    return frozenset(found)


def _held_or_all(asked: frozenset[_Condition]) -> frozenset[_Condition]:
    """Return those that still hold; all of them where that cannot be found out just now."""
    try:
        held = _held_of(asked)
    except (DatabaseError, InterfaceError) as error:
        connection.close()
        outages.access.begins(error)
    except Exception:  # whatever it is, it must not be the last look
        logger.exception("whether access has ended could not be asked")
    else:
        outages.access.ends()
        return held
    return asked


def _held_of(asked: frozenset[_Condition]) -> frozenset[_Condition]:
    """Return those that still hold. One query, and a second one where somebody has a session."""
    by_kind: dict[str, list[str]] = {}
    for kind, what in asked:
        by_kind.setdefault(kind, []).append(what)
    signed_in = {int(text.split()[0]) for text in by_kind.pop(_KNOWN, ())}
    first, *others = (_rows(kind, ids) for kind, ids in by_kind.items())
    held = frozenset(first.union(*others, all=True) if others else first)
    return held | _known_of(signed_in)


def _known_of(user_ids: Collection[int]) -> frozenset[_Condition]:
    """Return what a session of these users must know: another password, say, changes it."""
    users = User.objects.filter(pk__in=user_ids).only("password", "session_generation")
    found = users if user_ids else ()
    return frozenset((_KNOWN, f"{user.pk} {user.get_session_auth_hash()}") for user in found)


def _rows(kind: str, ids: Iterable[str]) -> "QuerySet[Any, tuple[str, str]]":
    """Return the rows of a kind that hold, as conditions."""
    rows: QuerySet[Any]
    what: Any = Cast("pk", CharField())
    match kind:
        case "user":
            rows = User.objects.filter(pk__in=map(int, ids), is_active=True)
        case "key":
            rows = ApiKey.objects.usable().filter(pk__in=map(int, ids))
        case "client key":
            rows = ClientKey.objects.filter(pk__in=map(int, ids))
        case "session":
            rows = Session.objects.filter(session_key__in=ids, expire_date__gt=timezone.now())
        case _:
            pairs = [tuple(map(int, text.split())) for text in ids]
            rows = Membership.objects.filter(
                user_id__in={user for user, _ in pairs}, team_id__in={team for _, team in pairs}
            )
            parts = (Cast("user_id", CharField()), Value(" "), Cast("team_id", CharField()))
            what = Concat(*parts, output_field=CharField())
    kinds = Value(kind, output_field=CharField())
    return (
        rows.order_by()
        .annotate(watched_kind=kinds, watched=what)
        .values_list("watched_kind", "watched")
    )
