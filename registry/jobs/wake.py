"""Tells the worker that there is something to do. Knows no job and no row.

The queue only wakes somebody up. What is lost with it is found in the rows a few seconds later
(`registry.jobs.recovery`), so that a queue that is away is no error of whoever asked.
"""

import logging
from typing import Final

from celery import current_app
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

TASK: Final = "registry.work_once"
# A connection of its own, because those of the pool try for many seconds.
_PATIENCE: Final = {
    "max_retries": 1,
    "interval_start": 0,
    "connect_retries_timeout": 1,
    "socket_connect_timeout": 1,
    "socket_timeout": 2,
}
# Whoever has not been woken by then is woken by the look at the rows.
_EXPIRES_S: Final = 60


def wake() -> None:
    """Have some worker look for the next job. A queue that does not answer is logged."""
    try:
        with current_app.connection_for_write(transport_options=_PATIENCE) as connection:
            current_app.signature(TASK).apply_async(
                connection=connection, expires=_EXPIRES_S, ignore_result=True, retry=False
            )
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("no worker could be woken, the job waits for the next look: %s", error)
