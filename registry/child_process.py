"""Work on files that nobody vouches for, in a process that can do little harm.

The child is one of our own modules, run by name: it reads one request from its input, writes lines
to its output and has an empty environment. It gets its limits before it gets the request, so it
reads nothing without them. Knows nothing of what the child does. Linux: prlimit(2).
"""

import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final

# One thread for a library that is loaded along and would otherwise reserve memory for each core.
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}
_READ_BYTES: Final = 64 * 1024


class ChildFailed(Exception):
    """The process could not do its work; the text says why, in words for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the process may use at most."""

    memory_bytes: int  # private memory
    mapped_bytes: int  # files that it maps, and what libraries reserve without using it
    cpu_s: int
    wall_s: float
    file_bytes: int  # of any file that it writes
    output_bytes: int  # of all its lines


def run_lines(
    module: str, request: bytes, *, descriptors: Sequence[int], limits: Limits
) -> Iterator[bytes]:
    """Run a module and yield its lines as they come. Raises ChildFailed.

    `descriptors` are the open files that it inherits under the same numbers. The process is gone
    when the iterator is exhausted or closed.
    """
    with _spawn(module, descriptors) as process:
        assert process.stdin is not None  # noqa: S101 - PIPE was asked for
        assert process.stdout is not None  # noqa: S101
        try:
            _start(process.pid, process.stdin, request, limits)
            yield from _read_lines(process.stdout, limits)
            _check_end(process.wait())
        finally:
            process.kill()


def _spawn(module: str, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            pass_fds=descriptors,
        )
    except OSError as error:
        raise ChildFailed(f"the process cannot be started: {error.strerror}") from error


def _start(pid: int, stdin: IO[bytes], request: bytes, limits: Limits) -> None:
    try:
        for kind, wanted in _limits_by_kind(limits).items():
            _, hard = resource.prlimit(pid, kind)
            if hard != resource.RLIM_INFINITY:
                wanted = (min(wanted[0], hard), min(wanted[1], hard))
            resource.prlimit(pid, kind, wanted)
        with stdin:
            stdin.write(request)
    except OSError as error:
        raise ChildFailed(f"the process cannot be started: {error.strerror}") from error


def _limits_by_kind(limits: Limits) -> dict[int, tuple[int, int]]:
    address_bytes = limits.memory_bytes + limits.mapped_bytes
    return {
        resource.RLIMIT_DATA: (limits.memory_bytes, limits.memory_bytes),
        resource.RLIMIT_AS: (address_bytes, address_bytes),
        # At the lower limit a signal says why the process ends, at the upper one it is killed.
        resource.RLIMIT_CPU: (limits.cpu_s, limits.cpu_s + 1),
        resource.RLIMIT_FSIZE: (limits.file_bytes, limits.file_bytes),
        resource.RLIMIT_CORE: (0, 0),
    }


def _read_lines(output: IO[bytes], limits: Limits) -> Iterator[bytes]:
    deadline = time.monotonic() + limits.wall_s
    left_bytes = limits.output_bytes
    buffer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise ChildFailed(f"it takes longer than {limits.wall_s:.0f} s")
            data = os.read(output.fileno(), _READ_BYTES)
            if not data:
                return
            left_bytes -= len(data)
            if left_bytes < 0:
                raise ChildFailed("the result is too large")
            buffer += data
            if b"\n" in data:
                *lines, rest = bytes(buffer).split(b"\n")
                buffer = bytearray(rest)
                yield from lines


def _check_end(code: int) -> None:
    if code == -signal.SIGXCPU:
        raise ChildFailed("it takes too much computing time")
    if code < 0:
        raise ChildFailed(f"the process was ended by {signal.Signals(-code).name}")
    if code > 0:
        raise ChildFailed(f"the process ended with code {code}")
