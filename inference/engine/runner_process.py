"""The node's side of one runner: start the process, talk to it, notice its end.

Runs on the node's event loop. Knows no scheduling: it reports to a `RunnerListener`.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from msgspec import structs

from inference.engine.machine import offer_to_oom_killer
from inference.engine.runner_messages import (
    FromRunner,
    Measured,
    Opened,
    OpenFailed,
    OpenModel,
    OpenUpstream,
    Pause,
    Proceed,
    Resume,
    Step,
)
from inference.frames import FrameDecoder, ProtocolError, encode
from inference.messages import Cancel, Embed, Generate, Wire

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 256 * 1024
_STOP_TIMEOUT_S: Final = 5.0
_KEPT_LOG_LINES: Final = 20
_COMMAND: Final = (sys.executable, "-I", "-m")
_LLAMA: Final = "inference.engine.runner"
_UPSTREAM: Final = "inference.engine.upstream_runner"


class RunnerListener(Protocol):
    """Who is told what a runner does. Each process reports exactly one end."""

    def runner_measured(self, key: str, measured: Measured) -> None:
        """It knows what the model takes and waits for `RunnerProcess.proceed`."""

    def runner_opened(self, key: str, opened: Opened) -> None:
        """The model is loaded."""

    def runner_stepped(self, key: str, step: Step) -> None:
        """What one step brought."""

    def runner_ended(self, key: str, message: str, *, was_open: bool) -> None:
        """The process is gone; `message` says why, in words for the client."""


class RunnerProcess:
    """One runner child process.

    `spin`: how often its OpenMP threads look for work before they sleep. Spinning for long starves
    web and worker on the same cores, passive waiting costs a quarter of the speed (DESIGN 4).
    """

    def __init__(
        self, key: str, request: OpenModel | OpenUpstream, listener: RunnerListener, *, spin: int
    ) -> None:
        self.key = key
        self.opened: Opened | None = None
        self.request = request
        self.heard_at = 0.0  # of the event loop's clock
        self._environment = {"GOMP_SPINCOUNT": str(spin), "LC_ALL": "C.UTF-8"}
        self._listener = listener
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._limit: asyncio.Timeout | None = None
        self._load_timeout_s = 0.0
        self._proceed: Proceed | None = None
        self._failure = ""
        self._log: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self._prepare: Callable[[], Awaitable[str]] | None = None
        self._preparing: asyncio.Future[str] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._process.pid if self._process else None

    def start(
        self, *, load_timeout_s: float, prepare: Callable[[], Awaitable[str]] | None = None
    ) -> None:
        """Begin to load the model. Measuring and loading may take that long each.

        `prepare` comes before the process, however long it takes; it returns why there shall be
        none, or nothing.
        """
        self._load_timeout_s = load_timeout_s
        self._prepare = prepare
        self._task = asyncio.create_task(self._run())

    def proceed(self, message: Proceed) -> None:
        """Let it load what it has measured."""
        self._proceed = message
        self._set_limit(self._load_timeout_s)
        self._write(message)

    def send(self, message: Generate | Embed | Cancel | Pause | Resume) -> None:
        """Send a message; a runner that is gone has reported its end instead."""
        self._write(message)

    def stop(self) -> None:
        """Ask the process to leave: it does when its socket closes."""
        self._is_stopping = True
        if self._preparing is not None:
            self._preparing.cancel()
        if self._writer is not None:
            self._writer.close()

    def kill(self, message: str) -> None:
        """End the process at once; `message` says why, in words for the client."""
        self._failure = message
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def wait(self) -> None:
        """Wait until the process is gone and its end was reported."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            if not await self._is_prepared():
                return
            await self._serve()
            if isinstance(self.request, OpenModel) and self._is_worth_a_second_try(self.request):
                logger.warning(
                    "runner %s crashed while loading; trying without ggml's extra buffers",
                    self.key[:12],
                )
                self.request = structs.replace(self.request, use_extra_buffers=False)
                await self._serve()
        except (OSError, ProtocolError) as error:
            self._failure = f"the model runner cannot be used: {error}"
        finally:
            await self._reap()
            self._listener.runner_ended(
                self.key, self._end_message(), was_open=self.opened is not None
            )

    async def _is_prepared(self) -> bool:
        if self._prepare is None or self._is_stopping:
            return not self._is_stopping
        self._preparing = asyncio.ensure_future(self._prepare())
        await asyncio.wait([self._preparing])
        if self._preparing.cancelled():
            return False
        self._failure = self._preparing.result()
        return not self._failure

    async def _serve(self) -> None:
        if self._is_stopping:
            return
        reader, self._writer, errors = await self._spawn()
        log = asyncio.create_task(self._read_log(errors))
        decoder: FrameDecoder[Wire] = FrameDecoder(FromRunner)
        try:
            self._write(self.request)
            async with asyncio.timeout(None) as self._limit:
                self._set_limit(self._load_timeout_s)
                while data := await _read(reader):
                    for message in decoder.feed(data):
                        self._receive(message)
        except TimeoutError:
            limit = f"{self._load_timeout_s:.0f} s"
            self.kill(f"timed out waiting for the model to load ({limit})")
        finally:
            self._limit = None
            self._writer.close()
            await self._reap()
            await log

    def _set_limit(self, seconds: float | None) -> None:
        """From now on the runner may be silent for so long; None or infinite: for ever."""
        if self._limit is not None and not self._limit.expired():
            is_endless = seconds is None or seconds == float("inf")
            now = asyncio.get_running_loop().time()
            self._limit.reschedule(None if is_endless else now + (seconds or 0.0))

    def _write(self, message: Wire) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    async def _spawn(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReader]:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *_COMMAND,
                _LLAMA if isinstance(self.request, OpenModel) else _UPSTREAM,
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        offer_to_oom_killer(self._process.pid)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        if self._is_stopping:
            writer.close()
        assert self._process.stderr is not None  # noqa: S101 - PIPE was asked for
        return reader, writer, self._process.stderr

    def _receive(self, message: Wire) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        match message:
            case Step():
                self._listener.runner_stepped(self.key, message)
            case Measured():
                self._set_limit(None)  # it may wait for memory
                if self._proceed is not None:  # the second try of a load that was allowed
                    self.proceed(self._proceed)
                else:
                    self._listener.runner_measured(self.key, message)
            case Opened():
                self._set_limit(None)
                self.opened = message
                self._listener.runner_opened(self.key, message)
            case OpenFailed(message=text):
                self._failure = text

    async def _read_log(self, errors: asyncio.StreamReader) -> None:
        while line := await errors.readline():
            text = line.decode("utf-8", "replace").rstrip()
            self._log.append(text)
            logger.info("runner %s: %s", self.key[:12], text, extra={"runner": self.key[:12]})

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

    def _is_worth_a_second_try(self, request: OpenModel) -> bool:
        code = self._process.returncode if self._process else None
        is_crash = code is not None and code < 0 and not self._is_stopping and not self._failure
        return is_crash and self.opened is None and request.use_extra_buffers

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
