"""What the site's nodes know of requests whose web process is gone: by this, rows are exact.

This machine's node is read from its journal, whether it runs or not; those on other machines are
asked. Blocks; for the ledger's recovery, which takes up what such a process has left.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from django.conf import settings

from inference import probe
from inference.dialling import RemoteNode
from inference.messages import Usage
from inference.node_journal import find_usages
from inference.recording import figures_of
from models_app import nodes
from models_app.ledger_recovery import LOCAL, Told
from models_app.nodes import Enrolled

logger = logging.getLogger(__name__)

_ANSWER_S: Final = 3.0


def find_ends(asked: Mapping[str, Collection[str]]) -> Told:
    """Return what messages have used that have ended, by nodes and their messages' ids.

    A node is asked, and believed, about those alone that it was sent. Raises django.db.Error.
    """
    elsewhere = [node for node in nodes.enrolled() if node.name in asked]
    heard = asyncio.run(_ask_all(elsewhere, asked)) if elsewhere else []
    usages = find_usages(settings.ENGINE_STATE_DIR, asked.get(LOCAL, ()))
    for node, told in zip(elsewhere, heard, strict=True):
        usages |= {name: usage for name, usage in (told or {}).items() if name in asked[node.name]}
    return Told(
        ends={name: figures_of(usage) for name, usage in usages.items()},
        silent=[node.name for node, told in zip(elsewhere, heard, strict=True) if told is None],
    )


async def _ask_all(
    enrolled: Sequence[Enrolled], asked: Mapping[str, Collection[str]]
) -> list[dict[str, Usage] | None]:
    return await asyncio.gather(*(_ask(node, asked[node.name]) for node in enrolled))


async def _ask(node: Enrolled, request_ids: Collection[str]) -> dict[str, Usage] | None:
    """Return what one node says; None: it does not answer."""
    where = RemoteNode(node.name, node.host, node.port, node.fingerprint, node.secret)
    try:
        return await probe.find_ends(where, request_ids, timeout_s=_ANSWER_S)
    except probe.NodeProblem as problem:
        logger.info("node %s does not tell what has ended there: %s", node.name, problem)
        return None
