"""Runners that have requests must be heard of: one that is silent for too long is killed.

Runs on the node's event loop; knows no scheduling.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from inference.engine.runner_process import RunnerProcess

logger = logging.getLogger(__name__)

_WATCH_EVERY_S: Final = 5.0


class Watchdog:
    """Looks after `processes`; `running_on` tells how many requests a runner has.

    `limit_s`: how long one may be silent; 0 or less: for ever.
    """

    def __init__(
        self,
        processes: Mapping[str, RunnerProcess],
        running_on: Callable[[str], int],
        *,
        limit_s: float,
    ) -> None:
        self._processes = processes
        self._running_on = running_on
        self._limit_s = limit_s
        self._watched: set[str] = set()  # runners that have requests
        self._timer: asyncio.TimerHandle | None = None

    def watch_over(self, process: RunnerProcess) -> None:
        """From now on a runner has to be heard of."""
        if process.key not in self._watched:
            self._watched.add(process.key)
            process.heard_at = asyncio.get_running_loop().time()
        if self._timer is None and self._limit_s > 0:
            self._schedule()

    def forget(self, key: str) -> None:
        """A runner is gone."""
        self._watched.discard(key)

    def close(self) -> None:
        """Look no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = min(_WATCH_EVERY_S, self._limit_s / 4)
        self._timer = loop.call_later(delay_s, self._look, loop.time() + delay_s)

    def _look(self, due_at: float) -> None:
        """Kill runners that have requests and are silent."""
        now = asyncio.get_running_loop().time()
        # When this process itself stood still, what the runners sent is still to be read.
        is_late = now - due_at > _WATCH_EVERY_S
        self._watched = {key for key in self._watched if self._running_on(key)}
        for key in self._watched:
            process = self._processes[key]
            silent_s = now - process.heard_at
            if silent_s > self._limit_s and not is_late:
                logger.error("runner %s is silent for %.0f s; killed", key[:12], silent_s)
                process.kill(f"model runner did not answer for {silent_s:.0f} s and was stopped")
        self._timer = None
        if self._watched:
            self._schedule()
