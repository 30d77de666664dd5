"""The node's side of one runner: start the process, talk to it, notice its end.

Runs on the node's event loop. Knows no scheduling: it reports to a `RunnerListener`.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections import deque
from typing import Final, Protocol

from msgspec import structs

from inference.messages import (
    Cancel,
    Event,
    Events,
    FrameDecoder,
    FromRunner,
    Generate,
    Opened,
    OpenFailed,
    OpenModel,
    ProtocolError,
    Wire,
    encode,
)

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 256 * 1024
_STOP_TIMEOUT_S: Final = 5.0
_KEPT_LOG_LINES: Final = 20
# OpenMP threads that spin for long at barriers starve web and worker on the same cores, and
# passive waiting costs a quarter of the speed (DESIGN 4, Threads).
_RUNNER_ENVIRONMENT: Final = {"GOMP_SPINCOUNT": "1000", "LC_ALL": "C.UTF-8"}


class RunnerListener(Protocol):
    """Who is told what a runner does. Each process reports exactly one end."""

    def runner_opened(self, key: str, opened: Opened) -> None:
        """The model is loaded."""

    def runner_events(self, key: str, events: tuple[Event, ...]) -> None:
        """One decode step's events."""

    def runner_ended(self, key: str, message: str, *, was_open: bool) -> None:
        """The process is gone; `message` says why, in words for the client."""


class RunnerProcess:
    """One runner child process."""

    def __init__(self, key: str, request: OpenModel, listener: RunnerListener) -> None:
        self.key = key
        self.opened: Opened | None = None
        self.request = request
        self._listener = listener
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._failure = ""
        self._log: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._process.pid if self._process else None

    def start(self, *, load_timeout_s: float) -> None:
        """Begin to load the model."""
        self._task = asyncio.create_task(self._run(load_timeout_s))

    def send(self, message: Generate | Cancel) -> None:
        """Send a message; a runner that is gone has reported its end instead."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    def stop(self) -> None:
        """Ask the process to leave: it does when its socket closes."""
        self._is_stopping = True
        if self._writer is not None:
            self._writer.close()

    async def wait(self) -> None:
        """Wait until the process is gone and its end was reported."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self, load_timeout_s: float) -> None:
        try:
            await self._serve(load_timeout_s)
            if self._is_worth_a_second_try():
                logger.warning(
                    "runner %s crashed while loading; trying without ggml's extra buffers",
                    self.key[:12],
                )
                self.request = structs.replace(self.request, use_extra_buffers=False)
                await self._serve(load_timeout_s)
        except (OSError, ProtocolError) as error:
            self._failure = f"the model runner cannot be used: {error}"
        finally:
            await self._reap()
            self._listener.runner_ended(
                self.key, self._end_message(), was_open=self.opened is not None
            )

    async def _serve(self, load_timeout_s: float) -> None:
        reader, self._writer, errors = await self._spawn()
        log = asyncio.create_task(self._read_log(errors))
        decoder: FrameDecoder[Wire] = FrameDecoder(FromRunner)
        try:
            self._writer.write(encode(self.request))
            timeout = None if load_timeout_s == float("inf") else load_timeout_s
            async with asyncio.timeout(timeout) as limit:
                while data := await _read(reader):
                    for message in decoder.feed(data):
                        self._receive(message)
                    if self.opened is not None:
                        limit.reschedule(None)
        except TimeoutError:
            self._failure = f"timed out waiting for the model to load ({load_timeout_s:.0f} s)"
        finally:
            self._writer.close()
            await self._reap()
            await log

    async def _spawn(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReader]:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "inference.engine.runner",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env=_RUNNER_ENVIRONMENT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        assert self._process.stderr is not None  # noqa: S101 - PIPE was asked for
        return reader, writer, self._process.stderr

    def _receive(self, message: Wire) -> None:
        match message:
            case Events(events=events):
                self._listener.runner_events(self.key, events)
            case Opened():
                self.opened = message
                self._listener.runner_opened(self.key, message)
            case OpenFailed(message=text):
                self._failure = text

    async def _read_log(self, errors: asyncio.StreamReader) -> None:
        while line := await errors.readline():
            text = line.decode("utf-8", "replace").rstrip()
            self._log.append(text)
            logger.info("runner %s: %s", self.key[:12], text)

    async def _reap(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            logger.warning("runner %s (pid %d) does not leave; killed", self.key[:12], process.pid)
            process.kill()
            await process.wait()

    def _is_worth_a_second_try(self) -> bool:
        code = self._process.returncode if self._process else None
        is_crash = code is not None and code < 0 and not self._is_stopping
        return is_crash and self.opened is None and self.request.use_extra_buffers

    def _end_message(self) -> str:
        if self._failure:
            return self._failure
        code = self._process.returncode if self._process else None
        if self._is_stopping or code is None:
            return "the model was unloaded"
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = f": {self._log[-1]}" if self._log and code > 0 else ""
        return f"model runner has unexpectedly stopped, please try again ({reason}{last})"


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(_READ_BYTES)
    except ConnectionError:
        # A process that dies with unread bytes resets the socket: the same end as a closed one.
        return b""
