"""What processes have left behind that were killed: their journals become rows of the ledger.

What had ended is written as it ended. What had not is LOST, with the tokens that the node has
counted for it until it noticed, or, where the node does not know it, those that its web process
wrote down last. Whoever lives looks: web and worker, at their start and every half minute. Knows
no engine: where a request's end is found is handed in.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from models_app import ledger, limits
from models_app.ledger_journal import (
    PATTERN,
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

# Ids of messages to a node → what they have used; those without an end are not in it.
FindEnds = Callable[[Collection[str]], Mapping[str, Figures]]


def recover(folder: Path, find_ends: FindEnds, *, grace_s: float = GRACE_S) -> bool:
    """Write what is in journals that nobody holds; return whether some has to be waited for.

    Raises django.db.Error. Blocks.
    """
    has_rest = False
    for path in sorted(folder.glob(PATTERN)):
        journal = LeftJournal.take(path)
        if journal is None:
            continue
        try:
            has_rest = _take_up(journal, find_ends, grace_s) or has_rest
        except OSError as error:
            logger.warning("%s could not be read: %s", path, error)
        finally:
            journal.close()
    return has_rest


def _take_up(journal: LeftJournal, find_ends: FindEnds, grace_s: float) -> bool:
    still_open = OpenRequests()
    written = 0
    for records in journal.read():
        written += len(ledger.write(still_open.feed(records)))
    is_patient = _is_young(journal, grace_s)
    died_at_us = journal.written_at_us()
    lost, is_complete = _lost(still_open, find_ends, died_at_us, is_patient=is_patient)
    new = set(ledger.write(lost))
    _settle([one for one in lost if one[0].request_id in new])
    written += len(new)
    if written:
        logger.warning(
            "%s: of a process that was killed, %d requests are in the ledger now, %d of them lost",
            journal.path.name,
            written,
            len(lost),
        )
    if is_complete:
        journal.remove()
    return not is_complete


def _lost(
    still_open: OpenRequests, find_ends: FindEnds, died_at_us: int, *, is_patient: bool
) -> tuple[list[ledger.Ended], bool]:
    """Return the requests that have no end, with one; and whether that is all of them."""
    if not still_open:
        return [], True
    ends = find_ends([message for begin, _ in still_open for message in begin.messages])
    lost: list[ledger.Ended] = []
    for begin, used in still_open:
        known = [ends[message] for message in begin.messages if message in ends]
        is_known = len(known) == len(begin.messages)
        if is_known or not is_patient:
            figures = sum_of(known) if is_known else used
            end = End(
                request_id=begin.request_id,
                at_us=died_at_us,
                outcome=Outcome.LOST,
                figures=figures,
            )
            lost.append((begin, end))
    return lost, len(lost) == len(still_open)


def _settle(lost: Collection[ledger.Ended]) -> None:
    """Count what lost requests have used in place of what is still held for them."""
    bills = [(begin.bill, end.figures) for begin, end in lost if begin.bill is not None]

    async def settle_all() -> None:
        try:
            for bill, figures in bills:
                await limits.settle_record(bill, used_tokens=figures.tokens_in + figures.tokens_out)
        finally:
            await limits.close()

    if bills:
        asyncio.run(settle_all())


_first_seen: Final[dict[str, float]] = {}


def _is_young(journal: LeftJournal, grace_s: float) -> bool:
    """Whether a journal was found so lately that the node may still be about to tell."""
    now = time.monotonic()
    for name in [name for name in _first_seen if not (journal.path.parent / name).exists()]:
        del _first_seen[name]
    return now - _first_seen.setdefault(journal.path.name, now) < grace_s
