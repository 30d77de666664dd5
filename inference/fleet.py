"""All nodes of a site together: where a request goes, what becomes of it when its node is lost.

One `Fleet` per process and event loop holds a client for each node: the one on this machine's
socket, and those that have joined. A request of which nothing was heard before its node went away
is sent once more, to another node or to the same when it is back, and so is one for which its node
has no room and another may have; any other ends in one clear error. What is asked of all nodes is
answered by those that answer. Knows no user, no row and no dialect.
"""

import asyncio
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from msgspec import structs

from inference import placement
from inference.client import EngineClient, new_request_id
from inference.dialling import Where
from inference.engine_stream import EngineStream, Observer, Submittable
from inference.errors import EngineUnavailable, NodeAway
from inference.messages import (
    Counters,
    Failed,
    FailureCode,
    Generate,
    LoadedModel,
    LoadedModels,
    ModelRef,
    NodeMetrics,
    NodeReport,
    QueueState,
    Unload,
)
from inference.no_room import NoRoom
from inference.placement import NodeSeen, NodeView
from ollamasite.errors import ServiceError

logger = logging.getLogger(__name__)

LOCAL: Final = "local"
# How long a request waits for a node when the last one was lost a moment ago: a restart's time.
BACK_WITHIN_S: Final = 30.0
# And where it first ends what runs: with the default drain time, and then that.
_LONGEST_WAIT_S: Final = 90.0
_LOST_LATELY_S: Final = 30.0
_LOOK_S: Final = 0.1
# How long a process's first request waits for further nodes to answer.
_FIRST_LOOK_S: Final = 1.0
_LEAST_PAUSE_S: Final = 0.2
_MOST_PAUSE_S: Final = 5.0
_MOST_KNOWN: Final = 4096

T = TypeVar("T")
Placed = Callable[[str], None]


def _nobody(node: str) -> None:
    """Take no note of where a request goes."""
    del node


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A node that belongs to the site. `announced` is what it said of itself when it joined."""

    name: str
    where: Where
    is_cordoned: bool = False
    announced: NodeReport | None = None
    seen_at: datetime | None = None  # when it last said that it is there


class _Member:
    """One node and the client for it."""

    def __init__(self, name: str, client: EngineClient, *, is_local: bool) -> None:
        self.name = name
        self.client = client
        self.is_local = is_local
        self.is_cordoned = False
        self.announced: NodeReport | None = None
        self.seen_at: datetime | None = None
        self.was_tried = False
        self._known_since = time.monotonic()
        self._next_try_at = 0.0
        self._pause_s = _LEAST_PAUSE_S
        self._opening: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it answers."""
        return self.client.connection is not None

    def try_to_open(self) -> asyncio.Task[None] | None:
        """Begin to connect where that is due; return the attempt that goes on, if there is one."""
        if self.is_open:
            return None
        if self._opening is None and time.monotonic() >= self._next_try_at:
            self._opening = asyncio.create_task(self._open())
        return self._opening

    def is_coming_back(self, now: float) -> bool:
        """Whether it is away and expected: it was there a moment before `now`.

        Or it has joined, and this process has not known of it for longer.
        """
        if self.is_cordoned:
            return False
        if self.is_open:
            return not self.view().takes_requests  # it is on its way down
        lost_at = self.client.lost_at
        if lost_at is None and self.announced is None:
            return False
        return now - (self._known_since if lost_at is None else lost_at) < _LOST_LATELY_S

    def could_hold(self, model: ModelRef) -> bool:
        """Whether a model fits on it, as far as it has ever told."""
        return placement.can_hold(self.client.last_report or self.announced, model)

    def stop(self) -> None:
        """End the attempt to connect, and the connection."""
        if self._opening is not None:
            self._opening.cancel()
        self.client.close()

    async def _open(self) -> None:
        try:
            await self.client.connect()
        except EngineUnavailable:
            self._next_try_at = time.monotonic() + self._pause_s
            self._pause_s = min(_MOST_PAUSE_S, 2 * self._pause_s)
        else:
            self._pause_s = _LEAST_PAUSE_S
        finally:
            self.was_tried = True
            self._opening = None

    def view(self) -> NodeView:
        """Return what placement has to know."""
        connection = self.client.connection
        return NodeView(
            name=self.name,
            is_local=self.is_local,
            is_cordoned=self.is_cordoned,
            report=connection.report if connection else None,
            in_flight=connection.in_flight if connection else {},
            in_flight_at_report=connection.in_flight_at_report if connection else {},
        )


class Fleet:
    """The nodes of a site, as one process sees them."""

    def __init__(self, socket_path: Path) -> None:
        local = _Member(LOCAL, EngineClient(socket_path), is_local=True)
        self._members: dict[str, _Member] = {LOCAL: local}
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._no_room = NoRoom()
        self._moves: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._is_closing = False

    def enlist(self, listed: Iterable[Listed]) -> None:
        """Have these nodes, beside this machine's; what runs on others goes elsewhere or fails."""
        wanted = {node.name: node for node in listed}
        for name, member in list(self._members.items()):
            if not member.is_local and not _is_same(member, wanted.get(name)):
                del self._members[name]
                member.stop()
        for name, node in wanted.items():
            if name not in self._members:
                self._members[name] = _Member(name, EngineClient(node.where), is_local=False)
            self._members[name].is_cordoned = node.is_cordoned
            self._members[name].announced = node.announced
            self._members[name].seen_at = node.seen_at

    # ------------------------------------------------------------ requests

    async def submit(
        self, request: Submittable, observe: Observer | None = None, placed: Placed = _nobody
    ) -> EngineStream:
        """Send a request to the node that serves it best; `placed` hears which, each time.

        Raises BodyTooLarge, EngineUnavailable where no node answers.
        """

        def rescue(stream: EngineStream, failed: Failed) -> bool:
            return self._move(stream, failed, placed)

        note = observe or (lambda _event: None)
        stream = EngineStream(request, note, rescue)
        await self._send(stream, placed, within_s=self._patience_s())
        if isinstance(request, Unload):
            await self._unload_elsewhere(request, stream.node)
        return stream

    async def _send(
        self, stream: EngineStream, placed: Placed, *, within_s: float, avoiding: str = ""
    ) -> None:
        """Send a stream's request, and wait so long for a node. Raises as `submit`."""
        began = time.monotonic()
        ends_at = began + within_s
        while True:
            error = await self._send_now(stream, placed, avoiding, began)
            if error is None:
                return
            if isinstance(error, NodeAway):
                ends_at = max(ends_at, began + BACK_WITHIN_S)
            if self._is_restarting():
                # It ends what runs, and has its time to come back behind that.
                ends_at = min(time.monotonic() + BACK_WITHIN_S, began + _LONGEST_WAIT_S)
            if time.monotonic() >= ends_at or self._is_closing or not stream.is_wanted:
                raise error
            await asyncio.sleep(_LOOK_S)
            avoiding = ""  # it may be back

    async def _send_now(
        self, stream: EngineStream, placed: Placed, avoiding: str, began: float
    ) -> EngineUnavailable | None:
        """Send to the best node of those that answer; return why none has taken it.

        Where it fits on none of them it waits for those that are back soon, since it `began`.
        """
        refused = {avoiding}
        error = EngineUnavailable()
        for _ in range(len(self._members)):
            member = await self._place(stream.request, refused)
            if member is None:
                break
            if names := self._awaited(member, stream.request, began):
                return NodeAway(f"this model fits only on {names}, which is away: try again soon")
            try:
                await member.client.send(stream)
            except EngineUnavailable as refusal:
                error = refusal
                refused.add(member.name)
            else:
                self._remember(stream.request, member.name)
                placed(member.client.node or member.name)
                return None
        return error

    async def _place(self, request: Submittable, refused: set[str]) -> _Member | None:
        is_bound = request.model.upstream is not None
        members = [m for m in await self._open_members() if m.name not in refused]
        # Whatever the others say that they hold: an engine's key goes to none of them.
        views = [member.view() for member in members if member.is_local or not is_bound]
        if isinstance(request, Unload):
            views = _holding(views, request) or views
        views = self._with_room(views, request.model) or views
        known = self._known.get(_caller_key(request), "")
        chosen = placement.choose(views, request.model, is_bound=is_bound, known=known)
        return self._members[chosen.name] if chosen else None

    def _with_room(self, views: Sequence[NodeView], model: ModelRef) -> list[NodeView]:
        """Leave out who would only say that the model does not fit."""
        now = time.monotonic()
        return [view for view in views if not self._no_room.is_known(view, model, now)]

    def _awaited(self, chosen: _Member, request: Submittable, began: float) -> str:
        """Name the nodes that are back soon and could do what the chosen one cannot, if any."""
        model = request.model
        is_bound = isinstance(request, Unload) or model.upstream is not None
        if is_bound or placement.can_hold(chosen.view().report, model):
            return ""
        members = self._members.values()
        return " or ".join(
            m.name for m in members if m.is_coming_back(began) and m.could_hold(model)
        )

    def _remember(self, request: Submittable, node: str) -> None:
        key = _caller_key(request)
        self._known[key] = node
        self._known.move_to_end(key)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    async def _unload_elsewhere(self, request: Unload, node: str) -> None:
        """Have the other nodes that hold a model let it go too."""
        if request.model.upstream is not None:
            return
        holding = _holding([m.view() for m in await self._open_members()], request)
        for view in holding:
            member = self._members[view.name]
            if member.client.node != node:
                again = structs.replace(request, request_id=new_request_id())
                with suppress(EngineUnavailable):
                    await member.client.submit(again)

    # ------------------------------------------------------------ lost nodes

    def _move(self, stream: EngineStream, failed: Failed, placed: Placed) -> bool:
        """Send a request again of which nothing was heard; False: it ends here."""
        if self._is_closing or not stream.is_wanted or isinstance(stream.request, Unload):
            return False
        lost = next((m.name for m in self._members.values() if m.client.node == stream.node), "")
        if failed.code is FailureCode.NO_ROOM:
            self._no_room.note(lost, stream.request.model, time.monotonic())
            if not self._is_room_elsewhere(stream.request.model):
                return False
        logger.info("request %s goes elsewhere: %s", stream.request_id, failed.message)
        task = asyncio.create_task(self._send_again(stream, failed, placed, lost))
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)
        return True

    def _is_room_elsewhere(self, model: ModelRef) -> bool:
        """Whether a node that answers may load a model, as far as it has told."""
        views = [member.view() for member in self._members.values() if member.is_open]
        able = [view for view in self._with_room(views, model) if view.takes_requests]
        return any(placement.can_hold(view.report, model) for view in able)

    async def _send_again(
        self, stream: EngineStream, failed: Failed, placed: Placed, lost: str
    ) -> None:
        is_gone = failed.code is not FailureCode.NO_ROOM
        within_s = BACK_WITHIN_S if is_gone else 0.0
        try:
            await self._send(stream, placed, within_s=within_s, avoiding=lost)
        except ServiceError as error:
            code = failed.code if stream.is_wanted else FailureCode.CANCELLED
            message = error.message if is_gone and isinstance(error, NodeAway) else failed.message
            stream.put(structs.replace(failed, code=code, message=message))
            return
        except asyncio.CancelledError:  # this process goes
            stream.put(failed)
            raise
        if not stream.is_wanted:  # who has left meanwhile
            stream.cancel()

    def _is_restarting(self) -> bool:
        """Whether a node is on its way down by itself, and not because it was taken out."""
        views = [member.view() for member in self._members.values()]
        return any(v.report and v.report.is_draining and not v.is_cordoned for v in views)

    def _patience_s(self) -> float:
        """Return how long a new request waits for a node: only where one was there just now."""
        now = time.monotonic()
        lost = [member.client.lost_at for member in self._members.values()]
        is_restart = any(at is not None and now - at < _LOST_LATELY_S for at in lost)
        return BACK_WITHIN_S if is_restart else 0.0

    # ------------------------------------------------------------ questions

    async def list_loaded(self) -> tuple[LoadedModel, ...]:
        """Return what is in memory anywhere. Raises EngineUnavailable."""
        models: dict[tuple[str, str], LoadedModel] = {}
        for memory in await self.get_memories():
            for model in memory.models:
                known = models.setdefault((model.name, model.digest), model)
                if _expiry_of(model) > _expiry_of(known):
                    models[model.name, model.digest] = model
        return tuple(sorted(models.values(), key=_expiry_of, reverse=True))

    async def get_memories(self) -> list[LoadedModels]:
        """Return what is in memory, of each node that answers. Raises EngineUnavailable."""
        return await self._ask_all(lambda client: client.get_memory())

    async def get_queue(self) -> QueueState:
        """Return who waits for what on all nodes. Raises EngineUnavailable."""
        states = await self._ask_all(lambda client: client.get_queue())
        entries = [entry for state in states for entry in state.entries]
        running = [entry for state in states for entry in state.on_slots]
        return QueueState(
            request_id="",
            entries=tuple(sorted(entries, key=lambda e: (e.position, -e.waited_s))),
            running=sum(state.running for state in states),
            slots=sum(state.slots for state in states),
            on_slots=tuple(sorted(running, key=lambda e: -e.age_s)),
        )

    async def get_counters(self) -> Counters:
        """Return what has been used since the nodes began. Raises EngineUnavailable."""
        told = await self._ask_all(lambda client: client.get_counters())
        names = [name for name in Counters.__struct_fields__ if name != "request_id"]
        sums = {name: sum(getattr(counters, name) for counters in told) for name in names}
        return Counters(request_id="", **sums)

    async def get_metrics(self) -> list[NodeMetrics]:
        """Return what each node that answers has counted and timed. Raises EngineUnavailable."""
        return await self._ask_all(lambda client: client.get_metrics())

    async def withdraw(self, request_id: str) -> bool:
        """End somebody's request wherever it is; return whether it was there."""
        return any(await self._ask_all(lambda client: client.withdraw(request_id)))

    def seen(self) -> list[NodeSeen]:
        """Return how every node stands, those that do not answer too."""
        return [_seen(member) for member in self._members.values()]

    async def _ask_all(self, ask: Callable[[EngineClient], Awaitable[T]]) -> list[T]:
        """Return the answers of the nodes that give one. Raises EngineUnavailable: none does."""
        members = await self._open_members()
        asked = [ask(member.client) for member in members]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        given = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not given:
            raise next(
                (e for e in answers if isinstance(e, EngineUnavailable)), EngineUnavailable()
            )
        return given

    # ------------------------------------------------------------ connections

    async def _open_members(self) -> list[_Member]:
        """Return the nodes that answer; wait for attempts only where it is the first or all."""
        attempts = [task for m in self._members.values() if (task := m.try_to_open())]
        is_first = any(not member.was_tried for member in self._members.values())
        found = [member for member in self._members.values() if member.is_open]
        if attempts and (is_first or not found):
            limit_s = _FIRST_LOOK_S if found else None
            # Shielded by `wait`: who leaves does not end what others wait for too.
            await asyncio.wait(attempts, timeout=limit_s)
        return [member for member in self._members.values() if member.is_open]

    def close(self) -> None:
        """Close the connections; requests that are still open end in SHUTTING_DOWN."""
        self._is_closing = True
        for task in list(self._moves):
            task.cancel()
        for member in self._members.values():
            member.stop()

    async def finish(self) -> None:
        """Close, but wait a moment for the ends of what nobody hears any more."""
        self._is_closing = True
        await asyncio.gather(*(member.client.finish() for member in self._members.values()))
        self.close()


def _holding(views: Sequence[NodeView], request: Unload) -> list[NodeView]:
    key = request.model.runner_key
    return [v for v in views if v.report and any(r.key == key for r in v.report.runners)]


def _caller_key(request: Submittable) -> tuple[str, str]:
    user = "" if isinstance(request, Unload) else request.user
    group = request.cache_group if isinstance(request, Generate) else ""
    return request.model.runner_key, group or user


def _expiry_of(model: LoadedModel) -> float:
    return float("inf") if model.expires_in_s is None else model.expires_in_s


def _is_same(member: _Member, node: Listed | None) -> bool:
    return node is not None and node.where == member.client.where


def _seen(member: _Member) -> NodeSeen:
    connection = member.client.connection
    return NodeSeen(
        name=member.client.node or member.name,
        is_local=member.is_local,
        is_cordoned=member.is_cordoned,
        report=connection.report if connection else None,
        lost_s=None if connection else _lost_s(member),
    )


def _lost_s(member: _Member) -> float | None:
    """Return since when a node is away; of one that was never heard here, what others know."""
    if member.client.lost_at is not None:
        return time.monotonic() - member.client.lost_at
    if member.seen_at is not None:
        return (datetime.now(UTC) - member.seen_at).total_seconds()
    return None


_fleets: "WeakKeyDictionary[asyncio.AbstractEventLoop, Fleet]" = WeakKeyDictionary()


def engine_fleet(socket_path: Path) -> Fleet:
    """Return this event loop's fleet."""
    loop = asyncio.get_running_loop()
    fleet = _fleets.get(loop)
    if fleet is None:
        fleet = _fleets[loop] = Fleet(socket_path)
    return fleet
