"""A really started `ollamasite serve`, for the tests of whole processes.

Knows the command, its output and its process tree; nothing of what the site answers.
"""

import contextlib
import fcntl
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.databases import database_settings
from tests.environment import RUN_FOLDER
from tests.prepared_sites import Kind, copy_prepared

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 90.0
# Below those that the kernel gives to whoever asks for any.
_PORTS: Final = range(20_000, 32_000)


class RunningSite:
    """One `serve` on a data directory and a free port of its own."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        from_nothing: bool = False,
    ) -> None:
        """Start it: on what is in the directory, or on what a first start leaves there.

        `from_nothing`: this is a first start, if the directory is empty.
        """
        self.data_dir = data_dir
        self._prepared_key = ""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        data_dir.mkdir(parents=True, exist_ok=True)
        # What is copied has its own database: of another one it would know no key.
        from_nothing = from_nothing or "OLLAMASITE_DATABASE_URL" in (settings or {})
        if not from_nothing and not any(data_dir.iterdir()):
            kind = Kind.BARE if "--no-starter-model" in options else Kind.STARTER
            self._prepared_key = copy_prepared(kind, data_dir).api_key
        self._log = data_dir.parent / f"{data_dir.name}-{time.monotonic_ns()}.log"
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith("OLLAMASITE_")
        }
        # Threads of a model meet at barriers: beside other tests, two wait for each other's turns.
        environ |= {"OLLAMASITE_NUM_THREAD": "1"} | database_settings(data_dir)
        environ |= dict(settings or {})
        self.environ = environ  # of its processes, for a command beside them
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                serve_command(data_dir, self.port, *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return self._log.read_text()

    @property
    def api_key(self) -> str:
        """The key that the first start printed."""
        if self._prepared_key:
            return self._prepared_key
        found = re.search(r"API key\s+(\S+)", self.output)
        assert found, self.output
        return found[1]

    def wait_until_started(self) -> None:
        """Wait for the banner, which is printed once requests succeed."""
        wait_for(lambda: "ollamasite is at" in self.output or self.has_ended, _START_TIMEOUT_S)
        assert not self.has_ended, self.output

    @property
    def has_ended(self) -> bool:
        """Whether `serve` itself is gone."""
        return self.process.poll() is not None

    def processes(self) -> dict[int, str]:
        """Return the command lines of everything that `serve` has started, by process id."""
        return descendants(self.process.pid)

    def pid_of(self, name: str) -> int:
        """Return the process id of the child whose command ends with `name`."""
        # What a worker has started has its command, and perhaps a smaller number.
        ours = [
            pid
            for pid, command in self.processes().items()
            if command.endswith(name) and _parent_of(pid) == self.process.pid
        ]
        assert len(ours) == 1, self.processes()
        return ours[0]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(_STOP_TIMEOUT_S)

    def clean_up(self) -> None:
        """Kill whatever is left; for the end of a test that went wrong."""
        for pid in [*self.processes(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def serve_command(data_dir: Path, port: int, *options: str) -> list[str]:
    """Return the command line of `serve`."""
    place = ["--port", str(port), "--data-dir", str(data_dir)]
    return [sys.executable, "-m", "ollamasite", "serve", *place, *options]


def free_port() -> int:
    """Return a port that nobody listens on and no other test of the run is given.

    One of the kernel's could be a client's, or another server's, before it is listened on.
    """
    with (Path(os.environ[RUN_FOLDER]) / "last-port").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read() or secrets.randbelow(len(_PORTS)))
        while True:
            number = (number + 1) % len(_PORTS)
            if _can_be_listened_on(_PORTS[number]):
                break
        file.truncate(0)
        file.write(str(number))
    return _PORTS[number]


def _can_be_listened_on(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def wait_for(is_true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


def are_gone(pids: list[int]) -> bool:
    """Whether none of these processes runs any longer."""
    return not any(_parent_of(pid) for pid in pids)


def descendants(root_pid: int) -> dict[int, str]:
    """Return the command lines of everything that a process has started, by process id."""
    parents = {
        int(entry.name): _parent_of(int(entry.name))
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal()
    }
    found: dict[int, str] = {}
    generation = {root_pid}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found |= {pid: _command_line(pid) for pid in generation}
    return found


def _parent_of(pid: int) -> int | None:
    """Return a process's parent, None for one that is gone or waits to be collected."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(parent)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
