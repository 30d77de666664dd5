"""Child processes of a measurement, and what a process tree uses, read from /proc (Linux).

Knows nothing of what the processes do.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

_STOP_TIMEOUT_S: Final = 60.0
_READY_TIMEOUT_S: Final = 180.0
_POLL_S: Final = 0.1
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_KEPT_LOG_LINES: Final = 20


class ProcessError(Exception):
    """A process did not start or went away; the message ends with its last lines."""


class Process:
    """A child with an environment of its own, whose output goes to a file."""

    def __init__(
        self, argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait for a sign of readiness. Raises ProcessError."""
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while not is_ready():
            if self._child.poll() is not None or time.monotonic() > deadline_s:
                raise ProcessError(f"not ready: {self._child.args!r}\n{self.last_words()}")
            time.sleep(_POLL_S)

    def last_words(self) -> str:
        """Return the last lines of its output."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return "\n".join(lines[-_KEPT_LOG_LINES:])

    def stop(self) -> None:
        """End it with SIGTERM, or with all its children by SIGKILL if that takes too long."""
        pids = [self.pid, *descendants(self.pid)]
        self._child.terminate()
        try:
            self._child.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._child.wait()


def free_port() -> int:
    """Return a port that nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def descendants(root_pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    parents = {
        int(entry.name): _parent_of(int(entry.name))
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal()
    }
    found: list[int] = []
    generation = {root_pid}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found += sorted(generation)
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have used so far; one that is gone counts nothing."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def busy_cpus(seconds: float = 2.0) -> float:
    """Watch the machine for a while and return how many of its CPUs are at work."""
    before = _busy_ticks()
    time.sleep(seconds)
    return (_busy_ticks() - before) / _TICKS_PER_S / seconds


def rss_bytes(pid: int) -> int:
    """Return the memory that a process has resident; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def command_line(pid: int) -> str:
    """Return a process's command line, empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _busy_ticks() -> int:
    """Return the ticks of all CPUs that were neither idle nor waiting for a disk (proc(5))."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = [int(field) for field in fields]
    return sum(ticks) - ticks[3] - ticks[4]


def _parent_of(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields and fields[0] != "Z" else None


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the command, from `state` on (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
