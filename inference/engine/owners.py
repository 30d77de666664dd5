"""Whose each request of the node is, and what waits for the end of a copy that came before it.

A web process that has lost a connection sends what has not begun again, by a new one, while the
node may still believe in the old one. The copy that came first is ended then, and the other begins
behind it: two of one id are never computed side by side. Who waits so is heard like everybody else:
it may be cancelled, and its connection may be lost. Knows no scheduling.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from inference.engine.connection import Connection
from inference.messages import Embed, Events, Failed, FailureCode, Generate, Load

Request = Generate | Embed | Load


@dataclass(frozen=True, slots=True)
class _Copy:
    """A request that has come once more."""

    connection: Connection
    request: Request


class Owners:
    """Which connection is told of a request. `begin` takes in a copy that has waited."""

    def __init__(self, begin: Callable[[Connection, Request], None]) -> None:
        self._begin = begin
        self._owners: dict[str, Connection] = {}
        self._copies: dict[str, _Copy] = {}
        self._none_left = asyncio.Event()
        self._none_left.set()

    def __contains__(self, request_id: str) -> bool:
        """Whether a request of this id has not ended."""
        return request_id in self._owners or request_id in self._copies

    def of(self, request_id: str) -> Connection | None:
        """Return who is told of a request that has begun; None: there is none, or only a copy."""
        return self._owners.get(request_id)

    def own(self, connection: Connection, request_id: str) -> None:
        """A request begins."""
        self._none_left.clear()
        self._owners[request_id] = connection
        connection.request_ids.add(request_id)

    def disown(self, request_id: str) -> None:
        """A request has ended; a copy of it begins soon."""
        connection = self._owners.pop(request_id, None)
        if connection is not None:
            connection.request_ids.discard(request_id)
        if request_id in self._copies:
            # Not now: whoever tells of the end has not told the scheduler yet.
            asyncio.get_running_loop().call_soon(self._begin_copy, request_id)
        self._look_if_none_left()

    def wait_for_first(self, connection: Connection, request: Request) -> None:
        """Have a copy wait for the end of the one that is there. Of several the last one stays."""
        before = self._copies.get(request.request_id)
        self._copies[request.request_id] = _Copy(connection, request)
        if before is not None and before.connection is not connection:
            _tell_cancelled(before)

    def drop_copy(self, request_id: str, *, of: Connection | None = None) -> bool:
        """End a copy that waits; `of`: only if it is theirs. Return whether there was one."""
        copy = self._copies.get(request_id)
        if copy is None or (of is not None and copy.connection is not of):
            return False
        del self._copies[request_id]
        _tell_cancelled(copy)
        self._look_if_none_left()
        return True

    def forget_copies(self, connection: Connection) -> None:
        """A connection is lost: of what waits for it nobody wants to hear any more."""
        theirs = [name for name, copy in self._copies.items() if copy.connection is connection]
        for request_id in theirs:
            del self._copies[request_id]
        self._look_if_none_left()

    async def wait_until_none_left(self) -> None:
        """Wait for the end of all of them."""
        await self._none_left.wait()

    def _begin_copy(self, request_id: str) -> None:
        copy = self._copies.pop(request_id, None)
        if copy is not None:  # it was not given up in between
            self._begin(copy.connection, copy.request)

    def _look_if_none_left(self) -> None:
        if not self._owners and not self._copies:
            self._none_left.set()


def _tell_cancelled(copy: _Copy) -> None:
    failed = Failed(
        request_id=copy.request.request_id,
        code=FailureCode.CANCELLED,
        message="request canceled",
    )
    copy.connection.send(Events(events=(failed,)))
