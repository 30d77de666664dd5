"""Who waits for what: the part of the engine's queue that a principal may know of.

Everybody sees their own requests and how many there are in all; an operator of the site sees all
of them, but never the name of a model that they could not use. Knows no HTTP and no wire shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.conf import settings

from inference.client import engine_client
from inference.messages import QueueEntry, QueueState
from models_app.permissions import Principal
from registry import library
from registry.library import ListedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that waits. `model` is None where the caller may not know it."""

    entry: QueueEntry
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The queue as one caller sees it; the counts are of everybody's requests."""

    waiting: tuple[Waiting, ...]
    waiting_count: int
    running_count: int
    slot_count: int


async def queue_of(principal: Principal) -> Queue:
    """Return what a principal may know of the queue. Raises EngineUnavailable."""
    state = await engine_client(settings.ENGINE_SOCKET).get_queue()
    listed: Sequence[ListedModel] = ()
    if sees_all(principal):
        listed = await sync_to_async(library.list_models)(principal)
    return visible_queue(principal, state, listed)


def sees_all(principal: Principal) -> bool:
    """Whether a principal is told of other people's requests."""
    return principal.may_operate


def visible_queue(principal: Principal, state: QueueState, listed: Sequence[ListedModel]) -> Queue:
    """Return the entries that a principal may see; `listed` are the models they may use."""
    names = {model.digest: model.name for model in reversed(listed)}

    def name_of(entry: QueueEntry) -> str | None:
        return entry.model if entry.user == principal.username else names.get(entry.digest)

    is_seen = sees_all(principal)
    return Queue(
        waiting=tuple(
            Waiting(entry=entry, model=name_of(entry))
            for entry in state.entries
            if is_seen or entry.user == principal.username
        ),
        waiting_count=len(state.entries),
        running_count=state.running,
        slot_count=state.slots,
    )
