"""What the site's nodes know of requests whose web process is gone: by this, rows are exact.

This machine's node is read from its journal, whether it runs or not; those on other machines are
asked. Blocks; for the ledger's recovery, which takes up what such a process has left.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Final

from django.conf import settings

from inference import probe
from inference.dialling import RemoteNode
from inference.messages import Usage
from inference.node_journal import find_usages
from inference.recording import figures_of
from models_app import nodes
from models_app.ledger_recovery import Told, ToldEnd
from models_app.nodes import Enrolled

logger = logging.getLogger(__name__)

_ANSWER_S: Final = 3.0
# What this machine's node is called in rows.
_LOCAL: Final = "local"

Usages = Mapping[str, Usage]


def find_ends(request_ids: Collection[str]) -> Told:
    """Return what messages have used of which a node has seen the end. Raises django.db.Error."""
    enrolled = nodes.enrolled()
    heard = asyncio.run(_ask_all(enrolled, request_ids)) if enrolled else []
    ends: dict[str, ToldEnd] = {}
    _add(ends, _LOCAL, find_usages(settings.ENGINE_STATE_DIR, request_ids))
    for node, usages in zip(enrolled, heard, strict=True):
        _add(ends, node.name, usages or {})
    silent = [node.name for node, usages in zip(enrolled, heard, strict=True) if usages is None]
    return Told(ends=ends, silent=tuple(silent))


def _add(ends: dict[str, ToldEnd], node: str, usages: Usages) -> None:
    """Take in what a node has told. Of what was moved, two know: where it was computed counts."""
    for request_id, usage in usages.items():
        known = ends.get(request_id)
        told = ToldEnd(figures_of(usage), node)
        if known is None or _tokens(told) > _tokens(known):
            ends[request_id] = told


def _tokens(end: ToldEnd) -> int:
    return end.figures.tokens_in + end.figures.tokens_out


async def _ask_all(enrolled: list[Enrolled], request_ids: Collection[str]) -> list[Usages | None]:
    return await asyncio.gather(*(_ask(node, request_ids) for node in enrolled))


async def _ask(node: Enrolled, request_ids: Collection[str]) -> Usages | None:
    """Return what one node says; None: it does not answer."""
    where = RemoteNode(node.name, node.host, node.port, node.fingerprint, node.secret)
    try:
        return await probe.find_ends(where, request_ids, timeout_s=_ANSWER_S)
    except probe.NodeProblem as problem:
        logger.info("node %s does not tell what has ended there: %s", node.name, problem)
        return None
