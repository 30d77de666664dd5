"""Keeps a set of child processes running: start, readiness, restart with backoff, ordered stop.

Every child leads a session of its own, so that it can be ended with all it has started, and gets
SIGTERM from the kernel when this process dies without having stopped it. Knows no Django and
nothing of what the children do; `ollamasite.serve` names them.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ollamasite.process_log import LineSplitter, ProcessLog

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_PROBE_INTERVAL_S: Final = 0.1
# What is still in the pipe of a child that has ended is read within this time.
_LAST_WORDS_S: Final = 1.0
# Loaded before any fork: importing or loading between fork and exec may deadlock.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildStartError(Exception):
    """A child did not get ready; the message says which and why."""


@dataclass(frozen=True)
class Child:
    """What to run. `ready` answers whether it serves; without it, having started is enough."""

    name: str
    argv: list[str]
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_timeout_s: float = 60.0
    stop_timeout_s: float | None = 10.0  # None: as long as it takes
    inherited_fds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Backoff:
    """How long to wait before the next start: doubled each time, forgotten when healthy."""

    first_s: float = 0.5
    longest_s: float = 30.0
    healthy_s: float = 60.0

    def next_s(self, previous_s: float | None, lived_s: float) -> float:
        """Return the pause after a child that lived `lived_s`."""
        if previous_s is None or lived_s >= self.healthy_s:
            return self.first_s
        return min(previous_s * 2, self.longest_s)


class Supervisor:
    """Starts children one after another and stops them in the reverse order."""

    def __init__(self, log: ProcessLog, backoff: Backoff | None = None) -> None:
        self._log = log
        self._backoff = backoff or Backoff()
        self._keepers: list[_Keeper] = []

    async def start(self, child: Child) -> None:
        """Start a child, wait until it is ready, then keep it running. Raises ChildStartError."""
        keeper = _Keeper(child, self._log, self._backoff)
        self._keepers.append(keeper)
        await keeper.start()

    async def stop(self) -> None:
        """Stop every child, the last started first, each with all it has started."""
        while self._keepers:
            await self._keepers[-1].stop()
            self._keepers.pop()

    def kill(self) -> None:
        """Kill every child at once; `stop` then has little left to wait for."""
        for keeper in self._keepers:
            keeper.kill()


class _Process(asyncio.SubprocessProtocol):
    """One life of a child: its output goes to the log, its end sets `has_exited`."""

    def __init__(self, lines: LineSplitter) -> None:
        self._lines = lines
        self.has_exited = asyncio.Event()
        self.has_closed = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._lines.feed(data)

    def process_exited(self) -> None:
        self.has_exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.close()
        self.has_closed.set()


class _Keeper:
    """Looks after one child from its start to its stop, through any number of lives."""

    def __init__(self, child: Child, log: ProcessLog, backoff: Backoff) -> None:
        self._child = child
        self._log = log
        self._backoff = backoff
        self._process: _Process | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._started_at_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = asyncio.Event()
        self._is_killed = False

    async def start(self) -> None:
        """Bring up the first life and hand it to the keeping task."""
        try:
            await self._launch()
        except OSError as error:
            raise ChildStartError(f"{self._child.name} cannot be started: {error}") from error
        if self._child.ready is not None:
            await self._wait_ready(self._child.ready)
        self._task = asyncio.create_task(self._keep(), name=f"keep {self._child.name}")

    async def stop(self) -> None:
        """Ask the child to end, wait as long as it may take, then kill what is left."""
        self._is_stopping.set()
        if self._transport is not None and self._transport.get_returncode() is None:
            logger.info("stopping %s", self._child.name)
            self._signal(signal.SIGTERM)
        # Without a task the child was not ready yet; now the task only waits for its end.
        end = self._task or asyncio.create_task(self._keep())
        try:
            await asyncio.wait_for(asyncio.shield(end), self._child.stop_timeout_s)
        except TimeoutError:
            logger.warning(
                "%s did not end within %.0f s and is killed",
                self._child.name,
                self._child.stop_timeout_s,
            )
            self.kill()
            await end

    def kill(self) -> None:
        """Kill the child and all it has started, now."""
        self._is_killed = True
        self._is_stopping.set()
        self._signal(signal.SIGKILL)

    async def _launch(self) -> None:
        parent_pid = os.getpid()
        loop = asyncio.get_running_loop()
        self._transport, self._process = await loop.subprocess_exec(
            lambda: _Process(LineSplitter(self._log, self._child.name)),
            *self._child.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=self._child.inherited_fds,
            preexec_fn=lambda: _die_with(parent_pid),
        )
        self._started_at_s = time.monotonic()
        if self._is_stopping.is_set():  # asked for while the process was being made
            self._signal(signal.SIGKILL if self._is_killed else signal.SIGTERM)

    async def _wait_ready(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        name, timeout_s = self._child.name, self._child.ready_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while not await is_ready():
                    if self._process is None or self._process.has_exited.is_set():
                        raise ChildStartError(f"{name} {self._ending()} before it was ready")
                    await asyncio.sleep(_PROBE_INTERVAL_S)
        except TimeoutError:
            raise ChildStartError(f"{name} was not ready within {timeout_s:.0f} s") from None

    async def _keep(self) -> None:
        pause_s: float | None = None
        while True:
            ending = await self._reap()
            if self._is_stopping.is_set():
                return
            lived_s = time.monotonic() - self._started_at_s
            pause_s = self._backoff.next_s(pause_s, lived_s)
            logger.warning(
                "%s %s after %.1f s; it is started again in %.1f s",
                self._child.name,
                ending,
                lived_s,
                pause_s,
            )
            if await _is_set_within(self._is_stopping, pause_s):
                return
            await self._relaunch()

    async def _relaunch(self) -> None:
        self._started_at_s = time.monotonic()
        # Out of memory or processes: `_reap` then counts it as a life that was short.
        with contextlib.suppress(OSError):
            await self._launch()

    async def _reap(self) -> str:
        """Wait for the leader's end, end whatever it left behind, return how it ended."""
        if self._process is None or self._transport is None:
            return "could not be started"
        await self._process.has_exited.wait()
        self._signal(signal.SIGKILL)
        # The group is dead, so the pipe ends too, unless something has left the session.
        await _is_set_within(self._process.has_closed, _LAST_WORDS_S)
        self._transport.close()
        ending = self._ending()
        # From here on the process id may belong to somebody else.
        self._process = self._transport = None
        return ending

    def _signal(self, number: signal.Signals) -> None:
        """Send SIGKILL to the whole group, which may outlive its leader, all else to the leader."""
        if self._transport is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(self._transport.get_pid(), number)
            else:
                self._transport.send_signal(number)

    def _ending(self) -> str:
        code = self._transport.get_returncode() if self._transport is not None else None
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        return f"was ended by {signal.Signals(-code).name}"


async def _is_set_within(event: asyncio.Event, timeout_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
    return event.is_set()


def _die_with(parent_pid: int) -> None:
    """Run in the child between fork and exec: SIGTERM for it when the parent dies."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)  # the parent died before the kernel knew of our wish
