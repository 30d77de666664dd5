"""The fleet of this process, with the nodes that the site has now.

Rows are read again at most once a second, by whoever asks then: that soon a node that has joined is
asked, and one that was cordoned is not. Where the database does not answer, the nodes that were
known stay.
"""

import logging
import time
from typing import Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from inference.dialling import RemoteNode
from inference.fleet import Fleet, Listed, engine_fleet
from inference.messages import Device, NodeReport
from models_app import nodes
from models_app.nodes import Enrolled

logger = logging.getLogger(__name__)

KEPT_S: Final = 1.0


class _Roster:
    """What was read last, for all event loops of the process."""

    def __init__(self) -> None:
        self.read_at = float("-inf")
        self.nodes: list[Enrolled] = []

    @property
    def is_old(self) -> bool:
        return time.monotonic() - self.read_at > KEPT_S


_roster: Final = _Roster()


async def current_fleet() -> Fleet:
    """Return this event loop's fleet."""
    if _roster.is_old:
        _roster.read_at = time.monotonic()  # the others do not ask meanwhile
        try:
            _roster.nodes = await sync_to_async(nodes.enrolled)()
        except (DatabaseError, InterfaceError):
            logger.warning("the nodes could not be read; those known before stay")
    fleet = engine_fleet(settings.ENGINE_SOCKET)
    fleet.enlist(_listed(node) for node in _roster.nodes)
    return fleet


def _listed(node: Enrolled) -> Listed:
    where = RemoteNode(node.name, node.host, node.port, node.fingerprint, node.secret)
    announced = NodeReport(
        node=node.name,
        total_bytes=node.memory_bytes,
        devices=tuple(Device(name=name) for name in node.devices),
    )
    return Listed(
        name=node.name,
        where=where,
        is_cordoned=node.is_cordoned,
        announced=announced,
        seen_at=node.last_seen_at,
    )
