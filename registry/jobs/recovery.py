"""The look at the rows that makes up for everything that gets lost: workers, queues, wake-ups.

One worker process does it every few seconds, in a thread. While it looks, the process does not
fork: a child must not inherit half a query. Knows no kind of job but the regular ones.
"""

import logging
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections
from django.utils import timezone

from models_app import jobs
from models_app.jobs import JobKind
from registry.garbage import GarbageArguments
from registry.jobs import notices
from registry.jobs.submit import submit
from registry.jobs.wake import wake

logger = logging.getLogger(__name__)

EVERY_S: Final = 5.0
STALE_S: Final = 15.0
MOST_ATTEMPTS: Final = 5
_GIVEN_UP: Final = {
    "code": "job_interrupted",
    "status": 500,
    "message": f"the job was interrupted {MOST_ATTEMPTS} times and is not begun again",
}
_forking: Final = threading.Lock()
_threads: Final[list[threading.Thread]] = []


def recover_once() -> None:
    """Queue again what nobody works at, wake whoever could work, have garbage collected in time.

    Blocks.
    """
    recovered = jobs.recover(stale_s=STALE_S, most_attempts=MOST_ATTEMPTS, error=_GIVEN_UP)
    for record in recovered.changed:
        logger.warning("the worker of job %s is gone: it was at %s", record.job_id, record.kind)
        notices.tell(record.job_id, record.owner_id)
    _collect_garbage_in_time()
    # Where all are at work, each wakes the next one at its end.
    for _ in range(min(recovered.queued, max(settings.WORKER_JOBS - recovered.running, 0))):
        wake()


def keep_recovering(*chores: Callable[[], object]) -> None:
    """Look at the rows now and every few seconds, as long as the process lives.

    Each time `chores` are done too: what else one process of a site shall do now and then, with
    the database. One that fails keeps none of the others from being done, now or later. Starts a
    thread; a second call changes nothing.
    """
    if _threads:
        return
    os.register_at_fork(
        before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forking.release
    )
    thread = threading.Thread(
        target=_recover_always, args=(chores,), name="job-recovery", daemon=True
    )
    _threads.append(thread)
    thread.start()


def _recover_always(chores: Sequence[Callable[[], object]]) -> None:
    pause = threading.Event()
    failures: Counter[Callable[[], object]] = Counter()
    while True:
        with _forking:
            look(recover_once, *chores, failures=failures)
            connections.close_all()
        pause.wait(EVERY_S)


def look(*chores: Callable[[], object], failures: Counter[Callable[[], object]]) -> None:
    """Do each chore; count which of them fail. Without the database none of them can be done."""
    try:
        for do in chores:
            _do(do, failures)
    except (OperationalError, InterfaceError) as error:
        logger.warning("jobs could not be looked at: %s", error)


def _do(do: Callable[[], object], failures: Counter[Callable[[], object]]) -> None:
    try:
        do()
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # whatever it is: nobody else would do what comes behind it
        failures[do] += 1
        if failures[do].bit_count() == 1:  # told less and less often
            name = getattr(do, "__qualname__", repr(do))
            logger.exception("%s failed, %d times in all", name, failures[do])


def _collect_garbage_in_time() -> None:
    if math.isinf(settings.GC_EVERY_S):
        return
    last = jobs.last_created(JobKind.COLLECT_GARBAGE)
    if last is None or last < timezone.now() - timedelta(seconds=settings.GC_EVERY_S):
        submit(
            None,
            JobKind.COLLECT_GARBAGE,
            GarbageArguments(),
            model_name="",
            share="gc",
            is_detached=True,
        )
