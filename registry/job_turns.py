"""Whose long job runs when: nobody's jobs keep those of others waiting for long.

Jobs run in threads of their own. A user has a few of them at work and a few more in line, and
with every one that ends goes to the end of the line of all. Knows no job and no HTTP.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from registry.errors import TooManyJobs

Job = Callable[[], None]


class JobTurns:
    """Runs jobs; safe to use from several threads. A job must not raise."""

    def __init__(self, *, threads: int, running_each: int, waiting_each: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="registry-job")
        self._running_each = running_each
        self._waiting_each = waiting_each
        self._lock = Lock()
        self._running: dict[int, int] = {}
        self._waiting: dict[int, deque[Job]] = {}

    def submit(self, user_id: int, job: Job) -> None:
        """Run a job when it is its turn. Raises TooManyJobs."""
        with self._lock:
            running = self._running.get(user_id, 0)
            if running >= self._running_each:
                waiting = self._waiting.setdefault(user_id, deque())
                if len(waiting) >= self._waiting_each:
                    raise TooManyJobs
                waiting.append(job)
                return
            self._running[user_id] = running + 1
        self._pool.submit(self._run, user_id, job)

    def _run(self, user_id: int, job: Job) -> None:
        job()
        with self._lock:
            waiting = self._waiting.get(user_id)
            following = waiting.popleft() if waiting else None
            if following is None:
                self._waiting.pop(user_id, None)
                self._running[user_id] -= 1
                if not self._running[user_id]:
                    del self._running[user_id]
        if following is not None:
            self._pool.submit(self._run, user_id, following)
