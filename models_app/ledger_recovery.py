"""What processes have left behind that were killed: their journals become rows of the ledger.

What had ended is written as it ended. What had not is LOST, with the tokens that the node has
counted for it until it noticed, or, where the node does not know it, those that its web process
wrote down last. What limits still hold for any of them is settled, and until it is, the journal
stays. Whoever lives looks: web and worker, at their start and every half minute. Knows
no engine: where a request's end is found is handed in.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from models_app import ledger, limits
from models_app.ledger_journal import (
    PATTERN,
    Begin,
    End,
    Figures,
    LeftJournal,
    OpenRequests,
    sum_of,
)
from models_app.models import Outcome

logger = logging.getLogger(__name__)

# How long a node may take to notice that a web process is gone, and to end its requests.
GRACE_S: Final = 10.0
# What this machine's node is called.
LOCAL: Final = "local"
# And how long one may be away that does not answer: restarted perhaps, or behind a cable.
SILENT_GRACE_S: Final = 90.0

# Side by side.
_SETTLED_AT_ONCE: Final = 16


class Told(NamedTuple):
    """What nodes have told: what those messages have used that have ended, by their ids.

    `silent` are the nodes that did not answer.
    """

    ends: Mapping[str, Figures]
    silent: Collection[str] = ()


# Nodes' names → ids of messages that each of them was sent.
FindEnds = Callable[[Mapping[str, Collection[str]]], Told]


class _Unsettled(NamedTuple):
    """What may still be held for a request that has ended; `ended_ms`: see `settle_record`."""

    bill: Mapping[str, Any]
    used_tokens: int
    ended_ms: int | None

    async def settle(self) -> bool:
        return await limits.settle_record(
            self.bill, used_tokens=self.used_tokens, ended_ms=self.ended_ms
        )


def recover(folder: Path, find_ends: FindEnds, *, grace_s: float = GRACE_S) -> bool:
    """Write what is in journals that nobody holds; return whether some has to be waited for.

    Raises django.db.Error. Blocks.
    """
    has_rest = False
    can_settle = True  # one that fails takes seconds, and so would all the others
    for path in sorted(folder.glob(PATTERN)):
        try:
            journal = LeftJournal.take(path)
        except OSError as error:  # of somebody else, say: those behind it are taken up
            logger.warning("%s cannot be taken up: %s", path, error.strerror)
            continue
        if journal is None:
            continue
        try:
            is_complete, unsettled = _take_up(journal, find_ends, grace_s)
            can_settle = can_settle and _settle(unsettled)
            if is_complete and (can_settle or not unsettled):
                journal.remove()
            has_rest = has_rest or not is_complete
        except OSError as error:
            logger.warning("%s could not be read: %s", path, error)
        finally:
            journal.close()
    return has_rest


def _take_up(
    journal: LeftJournal, find_ends: FindEnds, grace_s: float
) -> tuple[bool, list[_Unsettled]]:
    """Write its rows; return whether these are all, and what has to be settled then."""
    still_open = OpenRequests()
    new: set[str] = set()
    for records in journal.read():
        new.update(ledger.write(still_open.feed(records)))
    lost, is_complete = _lost(still_open, find_ends, journal, grace_s)
    new.update(ledger.write(lost))
    if new:
        logger.warning(
            "%s: of a process that was killed, %d requests are in the ledger now, %d of them lost",
            journal.path.name,
            len(new),
            len(lost),
        )
    ended = [*still_open.unsettled.values(), *lost]
    return is_complete, [_unsettled(begin, end, new) for begin, end in ended if begin.bill]


def _unsettled(begin: Begin, end: End, new: Collection[str]) -> _Unsettled:
    ended_ms: int | None = end.at_us // 1000
    if end.outcome == Outcome.LOST:
        ended_ms = None  # the row may be much younger
    elif begin.request_id in new:
        ended_ms = time.time_ns() // 1_000_000
    used_tokens = end.figures.tokens_in + end.figures.tokens_out
    return _Unsettled(begin.bill or {}, used_tokens, ended_ms)


def _lost(
    still_open: OpenRequests, find_ends: FindEnds, journal: LeftJournal, grace_s: float
) -> tuple[list[ledger.Ended], bool]:
    """Return the requests that have no end, with one; and whether that is all of them."""
    if not still_open:
        return [], True
    told = find_ends(_by_node(still_open))
    age_s = _age_s(journal)
    died_at_us = journal.written_at_us()
    lost: list[ledger.Ended] = []
    for begin, used in still_open:
        nodes = _nodes_of(still_open, begin)
        known = [told.ends[message] for message in begin.messages if message in told.ends]
        is_known = len(known) == len(begin.messages)
        is_silent = any(node in told.silent for node in nodes)
        if is_known or age_s >= (max(grace_s, SILENT_GRACE_S) if is_silent else grace_s):
            figures = sum_of(known) if is_known else used
            end = End(
                request_id=begin.request_id,
                at_us=died_at_us,
                outcome=Outcome.LOST,
                figures=figures,
                node=nodes[-1] if nodes else "",
            )
            lost.append((begin, end))
    return lost, len(lost) == len(still_open)


def _nodes_of(still_open: OpenRequests, begin: Begin) -> list[str]:
    """Return the nodes of a request's messages."""
    elsewhere = still_open.nodes_of(begin.request_id)
    return [elsewhere.get(message, LOCAL) for message in begin.messages]


def _by_node(still_open: OpenRequests) -> dict[str, list[str]]:
    asked: dict[str, list[str]] = {}
    for begin, _ in still_open:
        for node, message in zip(_nodes_of(still_open, begin), begin.messages, strict=True):
            asked.setdefault(node, []).append(message)
    return asked


def _settle(unsettled: Sequence[_Unsettled]) -> bool:
    """Count what requests have used in place of what is still held; return whether all are."""

    async def settle_all() -> bool:
        try:
            for start in range(0, len(unsettled), _SETTLED_AT_ONCE):
                some = unsettled[start : start + _SETTLED_AT_ONCE]
                if not all(await asyncio.gather(*(one.settle() for one in some))):
                    return False
            return True
        finally:
            await limits.close()

    return not unsettled or asyncio.run(settle_all())


_first_seen: Final[dict[str, float]] = {}


def _age_s(journal: LeftJournal) -> float:
    """Return how long ago this process has found a journal."""
    now = time.monotonic()
    for name in [name for name in _first_seen if not (journal.path.parent / name).exists()]:
        del _first_seen[name]
    return now - _first_seen.setdefault(journal.path.name, now)
