"""What the home page is about: what needs attention, what the node does, what is left of one's own.

Everything is as far as the caller may know of it. Async, as the engine and the limits are asked.
Knows no HTTP and no row of the database.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone
from msgspec import structs

from inference import attention, generation, queue
from inference.attention import Notice
from inference.errors import EngineUnavailable
from inference.loaded import visible_loaded
from inference.messages import LoadedModel, LoadedModels
from inference.placement import NodeSeen
from inference.queue import Queue
from models_app import jobs, key_reminders, limits, upstreams
from models_app.errors import LimitsUnavailable
from models_app.jobs import ACTIVE_STATES, JobState
from models_app.limits import LimitState
from models_app.permissions import Principal
from registry import disk_space, library
from registry.library import ListedModel

_ANSWERS_WITHIN_S: Final = 2.0
_KEYS_WITHIN: Final = timedelta(days=7)
_JOBS_WITHIN: Final = timedelta(days=1)
_JOBS_LOOKED_AT: Final = 20
_ENDED: Final = tuple(state for state in JobState if state not in ACTIVE_STATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is in a node's memory; `loaded` are the models of it that the caller may know of."""

    told: LoadedModels
    loaded: list[LoadedModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """What the nodes do together."""

    memories: list[Memory]
    queue: Queue
    seen: list[NodeSeen]

    @property
    def lost(self) -> list[NodeSeen]:
        """The nodes on other machines that do not answer."""
        return [node for node in self.seen if node.report is None and not node.is_local]

    @property
    def loaded(self) -> list[LoadedModel]:
        """The models in memory that the caller may know of, node by node."""
        return [model for memory in self.memories for model in memory.loaded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """All of it. `nodes` None: none answers; `left` None: nobody knows now."""

    listed: list[ListedModel]
    nodes: Nodes | None
    left: list[LimitState] | None
    notices: list[Notice]


async def look(principal: Principal) -> Home:
    """Return what there is to show to somebody."""
    listed, told = await sync_to_async(_read)(principal)
    nodes = await _ask_nodes(principal, listed)
    left = await _limits(principal)
    return Home(
        listed=listed,
        nodes=nodes,
        left=left,
        notices=[
            *_of_nodes(nodes, listed),
            *(_of_lost(nodes) if nodes and principal.may_operate else ()),
            *attention.of_limits(left or ()),
            *told,
        ],
    )


def _read(principal: Principal) -> tuple[list[ListedModel], list[Notice]]:
    """Return what the database and the disk know."""
    now = timezone.now()
    ended = jobs.list_jobs(principal, states=_ENDED, limit=_JOBS_LOOKED_AT)
    recent = [job for job in ended if job.ended_at and job.ended_at > now - _JOBS_WITHIN]
    keys = key_reminders.expiring_keys(principal, within=_KEYS_WITHIN)
    free = disk_space.scarce_bytes(settings.DATA_DIR) if principal.may_operate else None
    notices = [
        *attention.of_disk(free),
        *attention.of_engines(upstreams.down() if principal.may_operate else ()),
        *attention.of_failed_jobs(recent),
        *attention.of_keys(keys, now),
    ]
    return library.list_models(principal), notices


async def _ask_nodes(principal: Principal, listed: list[ListedModel]) -> Nodes | None:
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            told = await generation.engine_memories()
            seen = await queue.queue_among(principal, listed)
    except (EngineUnavailable, TimeoutError):
        return None
    memories = [
        Memory(told=one, loaded=visible_loaded(principal, one.models, listed)) for one in told
    ]
    return Nodes(memories=memories, queue=seen, seen=await generation.nodes_seen())


async def _limits(principal: Principal) -> list[LimitState] | None:
    try:
        return await limits.look(principal)
    except LimitsUnavailable:
        return None


def _of_nodes(nodes: Nodes | None, listed: list[ListedModel]) -> list[Notice]:
    if nodes is None:
        text = (
            "The inference service is not answering right now. It is started again by itself, "
            "and this page looks again every few seconds."
        )
        return [Notice(text, is_bad=True)]
    known = {model.digest: model.name for model in reversed(listed)}
    return attention.of_load_failures(
        structs.replace(failure, name=known[failure.digest])
        for memory in nodes.memories
        for failure in memory.told.failures
        if failure.digest in known
    )


def _of_lost(nodes: Nodes) -> list[Notice]:
    """Return what those who look after the nodes are to know."""
    return attention.of_nodes(
        lost=[node.name for node in nodes.lost],
        cordoned=[node.name for node in nodes.seen if node.is_cordoned and node.report],
    )
