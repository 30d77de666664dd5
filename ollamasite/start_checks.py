"""What must hold before `ollamasite serve` starts anything: a data directory and a port of its own.

Knows nothing of what is started afterwards.
"""

import errno
import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from typing import Final

from ollamasite.data_dir import RESTORING

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.2
_OLLAMA_PORT: Final = 11434


class ServeError(Exception):
    """The site cannot be started; the message says why and what to do."""


def hold_lock(path: Path, *, patience_s: float | None) -> int:
    """Lock the data directory for this process and return the lock's file descriptor.

    Children that inherit the descriptor keep the lock, so it is free when the last process of a
    killed `serve` is gone; `patience_s` is how long to wait for that. Raises ServeError.
    """
    lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    waited_since_s: float | None = None
    while not _try_lock(lock_fd):
        holder_pid = _read_pid(lock_fd)
        if holder_pid is not None and _is_alive(holder_pid):
            os.close(lock_fd)
            raise ServeError(
                f"`ollamasite serve` already runs on {path.parent} (process {holder_pid}). "
                f"Stop it with `kill {holder_pid}`, or name another directory with --data-dir."
            )
        if waited_since_s is None:
            waited_since_s = time.monotonic()
            logger.warning("an earlier serve was killed; waiting for its processes to end")
        elif patience_s is not None and time.monotonic() - waited_since_s > patience_s:
            os.close(lock_fd)
            raise ServeError(
                f"Processes of an earlier `ollamasite serve` still use {path.parent}. "
                f"Find them with `fuser {path}` and end them."
            )
        time.sleep(_POLL_S)
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
    return lock_fd


def is_held(path: Path) -> bool:
    """Whether somebody has a lock that `hold_lock` gives."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def refuse_half_restored(data_dir: Path) -> None:
    """Raise ServeError where a restore has not come to its end."""
    if (data_dir / RESTORING).exists():
        raise ServeError(
            f"A restore into {data_dir} was interrupted. Run `ollamasite restore` once more with "
            "the same backup, and then start the site."
        )


def refuse_taken_port(host: str, port: int) -> None:
    """Raise ServeError unless this process could listen on host and port."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise ServeError(_why_not(host, port, error)) from error


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        reason = error.strerror or str(error)
        return f"Cannot listen on {host}, port {port} ({reason}). See --host and --port."
    hint = " Ollama itself uses this port." if port == _OLLAMA_PORT else ""
    return (
        f"Port {port} on {host} is taken by another program.{hint} "
        "Stop that program, or choose another port with --port."
    )


def _try_lock(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(lock_fd: int) -> int | None:
    text = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
