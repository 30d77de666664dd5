"""When and from where keys were last used, written at most once a minute for each.

Uses are noted in memory and written together a little later, so that no request waits for it;
what a process has noted in its last second is lost when it is killed. Knows no HTTP.
"""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from contextvars import Context
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from models_app.models import ApiKey

logger = logging.getLogger(__name__)

_LATER_S: Final = 1.0
_STEP: Final = timedelta(minutes=1)
_MOST: Final = 50_000
_BATCH: Final = 500


class _Uses:
    """What is noted and not written yet, and what was noted when."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pending: dict[int, tuple[datetime, str | None]] = {}
        self.noted_s: dict[int, float] = {}


_uses: Final = _Uses()


def note(key_id: int, address: str | None, last_used_at: datetime | None) -> None:
    """Note that a key is used now. `last_used_at`: the last use that is known to be written."""
    now_s = time.monotonic()
    if now_s - _uses.noted_s.get(key_id, float("-inf")) < _STEP.total_seconds():
        return
    now = timezone.now()
    with _uses.lock:
        if len(_uses.noted_s) >= _MOST:
            _uses.noted_s.clear()
        _uses.noted_s[key_id] = now_s
        if last_used_at is None or now - last_used_at > _STEP:
            _uses.pending[key_id] = (now, address)


def write_soon() -> None:
    """Have what is noted written a little later. For event loops; waits for nothing."""
    if not _uses.pending:
        return
    loop = asyncio.get_running_loop()
    if loop not in _writers:
        # Nothing of the request that happens to be the first: neither its thread, which ends with
        # it, nor its id.
        task = _writers[loop] = loop.create_task(_write_later(), context=Context())
        task.add_done_callback(lambda _: _writers.pop(loop, None))


_writers: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]]" = WeakKeyDictionary()


async def _write_later() -> None:
    await asyncio.sleep(_LATER_S)
    await sync_to_async(_write_alone)()


def _write_alone() -> None:
    try:
        write()
    except DatabaseError as error:
        connection.close()
        logger.warning("when keys were used could not be written: %s", error)
    close_old_connections()


def write() -> None:
    """Write what has been noted, now."""
    if not _uses.pending:
        return
    with _uses.lock:
        pending, _uses.pending = _uses.pending, {}
    # Those of one second and address together: a CASE for each key, as `bulk_update` makes it, cost
    # each of the requests about a millisecond.
    together: dict[tuple[datetime, str | None], list[int]] = defaultdict(list)
    for key_id, (at, address) in pending.items():
        together[at.replace(microsecond=0), address].append(key_id)
    for (at, address), key_ids in together.items():
        for first in range(0, len(key_ids), _BATCH):
            used = ApiKey.objects.filter(pk__in=key_ids[first : first + _BATCH])
            used.update(last_used_at=at, last_used_address=address)


def forget() -> None:
    """Forget what is noted: the rows are others now."""
    with _uses.lock:
        _uses.pending.clear()
        _uses.noted_s.clear()
