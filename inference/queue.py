"""Who runs and who waits for what: the part of the engine's queue that a principal may know of.

Everybody sees their own requests and how many there are in all; an operator of the site sees all
of them, but never the name of a model that they could not use. Of somebody else's request one sees
that it is there and for how long, where one may use its model; that one can end it is for whose it
is and for operators. Knows no HTTP and no wire shape.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from asgiref.sync import sync_to_async
from msgspec import structs

from inference.errors import EngineUnavailable, RequestNotFound
from inference.messages import QueueEntry, QueueState, RunningEntry
from inference.roster import current_fleet
from models_app import audit
from models_app.permissions import Principal
from registry import library
from registry.library import ListedModel

_ANSWERS_WITHIN_S: Final = 2.0

E = TypeVar("E", QueueEntry, RunningEntry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Generic[E]):
    """A request as one caller sees it. `model` is None where the caller may not know it.

    What the caller may not know of the entry is empty: of a request that is not `is_known`, all
    that tells whose it is and what it is about.
    """

    entry: E
    model: str | None
    is_own: bool
    is_known: bool


Waiting = Seen[QueueEntry]
Running = Seen[RunningEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The queue as one caller sees it; the counts are of everybody's requests.

    `others_running` and `others_waiting` are those that the caller may not know.
    """

    running: tuple[Running, ...]
    waiting: tuple[Waiting, ...]
    running_count: int
    waiting_count: int
    slot_count: int
    others_running: tuple[Running, ...] = ()
    others_waiting: tuple[Waiting, ...] = ()


@dataclass(slots=True)
class ModelQueue:
    """Who is on a model and who waits for it; `model` None: on all those that one cannot use."""

    model: str | None
    running: list[Running] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)

    @property
    def has_own(self) -> bool:
        """Whether one of them is the caller's."""
        return any(one.is_own for one in self.running) or any(one.is_own for one in self.waiting)


async def queue_of(principal: Principal) -> Queue:
    """Return what a principal may know of the queue. Raises EngineUnavailable."""
    return await queue_among(principal, await sync_to_async(library.list_models)(principal))


async def queue_or_none(principal: Principal) -> Queue | None:
    """Return the same; None: the engine does not answer."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            return await queue_of(principal)
    except (EngineUnavailable, TimeoutError):
        return None


async def queue_among(principal: Principal, listed: Sequence[ListedModel]) -> Queue:
    """Return the same for somebody who may use the models `listed`. Raises EngineUnavailable."""
    state = await (await current_fleet()).get_queue()
    return visible_queue(principal, state, listed)


async def find(principal: Principal, request_id: str) -> Running | Waiting:
    """Return a request that the caller may end. Raises RequestNotFound, EngineUnavailable."""
    seen = await queue_of(principal)
    asked: list[Running | Waiting] = [*seen.running, *seen.waiting]
    for found in asked:
        if found.entry.request_id == request_id:
            return found
    raise RequestNotFound


async def cancel(principal: Principal, request_id: str) -> None:
    """End a request; whoever has sent it is told that it was cancelled.

    Raises RequestNotFound, EngineUnavailable.
    """
    found = await find(principal, request_id)
    if not await (await current_fleet()).withdraw(request_id):
        raise RequestNotFound  # it has ended meanwhile
    if not found.is_own:
        record = sync_to_async(audit.record)
        await record("request.cancel", found.entry.user, by=principal, request=request_id)


def sees_all(principal: Principal) -> bool:
    """Whether a principal is told of other people's requests, and may end them."""
    return principal.may_operate


def visible_queue(principal: Principal, state: QueueState, listed: Sequence[ListedModel]) -> Queue:
    """Return the entries as a principal may see them; `listed` are the models they may use."""
    names = {model.digest: model.name for model in reversed(listed)}
    running = [_seen(principal, entry, names) for entry in state.on_slots]
    waiting = [_seen(principal, entry, names) for entry in state.entries]
    return Queue(
        running=tuple(seen for seen in running if seen.is_known),
        waiting=tuple(seen for seen in waiting if seen.is_known),
        running_count=state.running,
        waiting_count=len(state.entries),
        slot_count=state.slots,
        others_running=tuple(seen for seen in running if not seen.is_known),
        others_waiting=tuple(seen for seen in waiting if not seen.is_known),
    )


def by_model(queue: Queue) -> list[ModelQueue]:
    """Return all of a queue by model: those that have requests of the caller's first."""
    found: dict[str | None, ModelQueue] = {}
    running = sorted((*queue.running, *queue.others_running), key=lambda seen: -seen.entry.age_s)
    for one in running:
        found.setdefault(one.model, ModelQueue(one.model)).running.append(one)
    waiting = sorted(
        (*queue.waiting, *queue.others_waiting),
        key=lambda seen: (seen.entry.position, -seen.entry.waited_s),
    )
    for other in waiting:
        found.setdefault(other.model, ModelQueue(other.model)).waiting.append(other)
    return sorted(found.values(), key=lambda q: (not q.has_own, q.model is None, q.model or ""))


def _seen(principal: Principal, entry: E, names: dict[str, str]) -> Seen[E]:
    is_own = entry.user == principal.username
    model = entry.model if is_own else names.get(entry.digest)
    is_known = is_own or sees_all(principal)
    if not is_own:
        entry = structs.replace(entry, model="", digest="", key_name="")
    if not is_known:
        entry = structs.replace(entry, request_id="", user="")
    if not is_known and isinstance(entry, RunningEntry):
        entry = structs.replace(entry, prompt_tokens=0, completion_tokens=0, tokens_per_s=0.0)
    return Seen(entry=entry, model=model, is_own=is_own, is_known=is_known)


async def entry_of(request_id: str) -> QueueEntry | None:
    """Return where a request waits, None where it does not. Raises EngineUnavailable."""
    state = await (await current_fleet()).get_queue()
    return next((entry for entry in state.entries if entry.request_id == request_id), None)
