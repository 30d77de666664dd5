"""`ollamasite serve`: one machine's processes, from an empty data directory to a site that answers.

Knows which processes there are and in which order they start and stop; what each of them does is
its own command's business.
"""

import asyncio
import logging
import math
import signal
import sys
from typing import Final, TextIO

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections

from ollamasite import redis_server
from ollamasite.first_start import banner, create_first_admin, create_starter_model
from ollamasite.listening import LOCK, Address
from ollamasite.process_log import ProcessLog, ProcessLogHandler
from ollamasite.self_probe import SelfProbe
from ollamasite.start_checks import (
    ServeError,
    hold_lock,
    refuse_half_restored,
    refuse_taken_port,
)
from ollamasite.supervisor import Child, ChildStartError, Supervisor

logger = logging.getLogger(__name__)

_READY_TIMEOUT_S: Final = 60.0
# A child that drains gets this much longer than the drain may take, then it is killed.
_DRAIN_GRACE_S: Final = 10.0


def serve(output: TextIO, *, has_starter_model: bool) -> None:
    """Run the site until SIGTERM or Ctrl-C. Raises ServeError if it cannot be started."""
    is_json = settings.LOG_FORMAT == "json"
    log = ProcessLog(output, is_coloured=output.isatty(), is_json=is_json)
    _log_as_serve(log)
    lock_fd = hold_lock(settings.DATA_DIR / LOCK, patience_s=_stop_timeout_s())
    refuse_half_restored(settings.DATA_DIR)
    refuse_taken_port(settings.BIND_HOST, settings.BIND_PORT)
    settings.STARTING_MARK.touch()
    try:
        Address(settings.BIND_HOST, settings.BIND_PORT).leave()
        _migrate()
        asyncio.run(_Site(output, log, lock_fd, has_starter_model=has_starter_model).run())
    except (ChildStartError, redis_server.NoRedisError) as error:
        raise ServeError(f"{error}. Everything has been stopped again.") from error
    finally:
        settings.STARTING_MARK.unlink(missing_ok=True)


class _Site:
    """The running processes, and what is done once they run."""

    def __init__(
        self, output: TextIO, log: ProcessLog, lock_fd: int, *, has_starter_model: bool
    ) -> None:
        self._output = output
        self._lock_fd = lock_fd
        self._has_starter_model = has_starter_model
        self._supervisor = Supervisor(log)
        self._probe = SelfProbe(settings.BIND_HOST, settings.BIND_PORT)
        self._stop_asked = asyncio.Event()

    async def run(self) -> None:
        """Start everything, stay until a signal asks for the end, stop everything."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop_asked.set)
        starting = asyncio.create_task(self._start())
        stop_asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait({starting, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await stop_asked
        finally:
            for task in (starting, stop_asked):
                task.cancel()
            await asyncio.wait({starting, stop_asked})
            await self._supervisor.stop()

    def _interrupt(self) -> None:
        if self._stop_asked.is_set():
            logger.warning("interrupted twice: everything is killed")
            self._supervisor.kill()
        self._stop_asked.set()

    async def _start(self) -> None:
        if not _has_own_redis() and not await redis_server.answers_ping(settings.REDIS_URL):
            raise ChildStartError("The Redis that OLLAMASITE_REDIS_URL names does not answer")
        for child in self._children():
            await self._supervisor.start(child)
        is_done = False
        model = None
        creating_admin = asyncio.create_task(create_first_admin())
        try:
            await asyncio.shield(creating_admin)
            if self._has_starter_model:
                model = await create_starter_model()
            settings.STARTING_MARK.unlink(missing_ok=True)
            await self._probe.wait_until_ready(_READY_TIMEOUT_S)
            is_done = True
        finally:
            # Also when interrupted: the password and the key stand nowhere else.
            admin = await creating_admin
            if is_done or admin is not None:
                self._output.write(banner(self._probe.url, admin, model))
                self._output.flush()

    def _children(self) -> list[Child]:
        """Return the processes in the order of their start; they stop in the reverse order."""
        lock = (self._lock_fd,)
        drain_s = _stop_timeout_s()
        children = [
            Child("inference", _command("inference"), inherited_fds=lock),
            Child("worker", _command("worker"), stop_timeout_s=drain_s, inherited_fds=lock),
            Child(
                "web",
                _command("web"),
                ready=self._probe.answers,
                stop_timeout_s=drain_s,
                inherited_fds=lock,
            ),
        ]
        if _has_own_redis():
            argv = redis_server.command_line(
                redis_server.find_executable(), settings.REDIS_SOCKET, settings.DATA_DIR / "redis"
            )
            children.insert(0, Child("redis", argv, ready=_redis_answers, inherited_fds=lock))
        return children


def _command(name: str) -> list[str]:
    return [sys.executable, "-u", "-m", "ollamasite", name]


def _has_own_redis() -> bool:
    return f"unix://{settings.REDIS_SOCKET}" == settings.REDIS_URL


async def _redis_answers() -> bool:
    return await redis_server.answers_ping(settings.REDIS_URL)


def _stop_timeout_s() -> float | None:
    return None if math.isinf(settings.DRAIN_S) else settings.DRAIN_S + _DRAIN_GRACE_S


def _migrate() -> None:
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except (CommandError, DatabaseError) as error:
        raise ServeError(f"The database cannot be brought up to date: {error}") from error
    finally:
        connections.close_all()


def _log_as_serve(log: ProcessLog) -> None:
    """Send this process's own log records where its children's lines go, as `serve`."""
    handler = ProcessLogHandler(log, "serve")
    root = logging.getLogger()
    for former in root.handlers:
        handler.setFormatter(former.formatter)
    root.handlers = [handler]
