"""What is away for a while, told of once: when it goes, and when it is back.

Every request that needs it would say so otherwise, and libraries say it with a traceback each time.
Knows no database and no Redis: who asks them tells.
"""

import asyncio
import logging
import threading
import time
from typing import Final

logger = logging.getLogger(__name__)

# By name: most processes load nothing of Redis.
_REDIS_ERRORS: Final = "redis.exceptions"


class Outage:
    """One thing that may be away. Threads share it."""

    def __init__(self, what: str, meanwhile: str) -> None:
        """`meanwhile` is a sentence for operators: what its absence means."""
        self._what = what
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._began_s: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether it was away when it was asked last."""
        return self._began_s is not None

    def begins(self, error: object) -> None:
        """Say that it does not answer. Only the first call of an outage is written down."""
        with self._lock:
            if self.is_on:
                return
            self._began_s = time.monotonic()
        reason = " ".join(str(error).split())
        logger.warning("%s does not answer: %s (%s)", self._what, self._meanwhile, reason)

    def ends(self) -> None:
        """Say that it has answered. Cheap where it always does."""
        if not self.is_on:
            return
        with self._lock:
            began_s, self._began_s = self._began_s, None
        if began_s is not None:
            lasted_s = time.monotonic() - began_s
            logger.warning("%s answers again after %.0f s", self._what, lasted_s)


redis: Final = Outage(
    "Redis",
    "what has limits is refused after the first requests, guesses are counted by each process "
    "alone, and jobs are read from the database every few seconds",
)
ledger: Final = Outage(
    "the ledger", "what has limits is refused, as nobody knows what had been used of them"
)
access: Final = Outage("the database", "whether access has ended is asked again until it does")
ledger_rows: Final = Outage("the database", "what has ended waits in the journal for its row")
answers: Final = Outage("the database", "answers of chats go on and are written when it does")
job_rows: Final = Outage("the database", "jobs are told of when it does")


class QuietWhileAway(logging.Filter):
    """Makes one outage of Redis out of what a library says of it again and again."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep a line out of the log where it is about Redis, told of once, or about no failure."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError):
            return False  # it was told to stop once more while it was leaving: nothing is wrong
        is_redis = any(kind.__module__ == _REDIS_ERRORS for kind in type(error).__mro__)
        if not (is_redis or isinstance(error, OSError)):
            return True
        redis.begins(error)
        return False
