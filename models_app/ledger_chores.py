"""What somebody has to do for the ledger now and then.

Take up what was left behind, drop old rows, take out the names of who is forgotten.

For a process that is asked every few seconds, whoever it is. Knows no engine and no job.
"""

import logging
import time
from typing import Final

from django.conf import settings

from models_app import forgetting, ledger
from models_app.ledger_recovery import FindEnds, recover

logger = logging.getLogger(__name__)

RECOVER_EVERY_S: Final = 30.0
# After a journal was found whose last requests are still waited for.
RECOVER_AGAIN_S: Final = 3.0
_REMOVE_EVERY_S: Final = 3600.0
_FORGET_EVERY_S: Final = 600.0


class _Times:
    """When it is done next, by the monotonic clock."""

    recover_at = 0.0
    remove_at = 0.0
    forget_at = 0.0


def do(find_ends: FindEnds) -> None:
    """Do what it is time for. Raises django.db.Error. Blocks."""
    recover_in_time(find_ends)
    if time.monotonic() >= _Times.remove_at:
        _Times.remove_at = time.monotonic() + _REMOVE_EVERY_S
        if removed := ledger.remove_old():
            logger.info("%d rows of the ledger were older than they are kept", removed)
    if time.monotonic() >= _Times.forget_at:
        _Times.forget_at = time.monotonic() + _FORGET_EVERY_S
        forgetting.take_out_rest()


def recover_in_time(find_ends: FindEnds) -> None:
    """Take up what processes have left that were killed, if nobody has looked just now."""
    if time.monotonic() < _Times.recover_at:
        return
    has_rest = recover(settings.LEDGER_DIR, find_ends)
    _Times.recover_at = time.monotonic() + (RECOVER_AGAIN_S if has_rest else RECOVER_EVERY_S)
