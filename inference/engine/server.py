"""The inference node: a socket for web processes, a scheduler, and a runner for each loaded model.

`run` is the process. Frames of `inference.messages` in and out; events of one decode step leave
in one frame per connection. A connection that ends takes its requests with it. Knows nothing of
Django, users' rights or HTTP.
"""

import asyncio
import contextlib
import logging
import signal
import time
from typing import Final

from msgspec import structs

from inference.engine.config import EngineConfig
from inference.engine.runner_process import RunnerProcess
from inference.engine.scheduler import (
    Action,
    CancelOnRunner,
    Dispatch,
    End,
    RunnerState,
    Scheduler,
    StartRunner,
    StopRunner,
)
from inference.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Event,
    Events,
    Failed,
    Finished,
    FrameDecoder,
    Generate,
    Hello,
    ListLoaded,
    Load,
    LoadedModel,
    LoadedModels,
    Opened,
    OpenModel,
    Ping,
    Pong,
    ProtocolError,
    ToNode,
    Unload,
    Welcome,
    Wire,
    encode,
)

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 256 * 1024
# A web process that reads this far behind is not coming back.
_MOST_UNSENT_BYTES: Final = 64 * 1024 * 1024


class Connection:
    """One web process."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.request_ids: set[str] = set()

    def send(self, message: Wire) -> None:
        """Send a message; one that cannot be sent ends the connection."""
        if self._writer.is_closing():
            return
        self._writer.write(encode(message))
        if self._writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            logger.error("a web process does not read its events; its connection is closed")
            self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection after what was sent."""
        self._writer.close()


class Node:
    """Everything of one machine's engine that is not a connection or a process itself."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._scheduler = Scheduler(
            parallel=config.parallel,
            max_loaded=config.max_loaded,
            max_queue=config.max_queue,
            keep_alive_s=config.keep_alive_s,
        )
        self._processes: dict[str, RunnerProcess] = {}
        self._owners: dict[str, Connection] = {}
        self._load_ns: dict[str, int] = {}
        self._connections: set[Connection] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._all_ended = asyncio.Event()
        # Until a runner has crashed with them on this machine.
        self._use_extra_buffers = True

    # ------------------------------------------------------------ web processes

    async def serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one web process until it leaves."""
        connection = Connection(writer)
        decoder: FrameDecoder[Wire] = FrameDecoder(ToNode)
        self._connections.add(connection)
        try:
            while data := await reader.read(_READ_BYTES):
                for message in decoder.feed(data):
                    self._receive(connection, message)
        except (OSError, ProtocolError) as error:
            logger.warning("connection of a web process failed: %s", error)
        finally:
            self._connections.discard(connection)
            for request_id in sorted(connection.request_ids):
                self._apply(self._scheduler.cancel(request_id, time.monotonic()))
            writer.close()

    def _receive(self, connection: Connection, message: Wire) -> None:
        now = time.monotonic()
        match message:
            case Hello(protocol=protocol, client=client):
                connection.send(Welcome(protocol=PROTOCOL_VERSION, node=self._config.name))
                if protocol != PROTOCOL_VERSION:
                    logger.error("%s speaks protocol %d; refused", client, protocol)
                    connection.close()
            case Generate() | Load():
                self._own(connection, message.request_id)
                self._apply(self._scheduler.submit(message, now))
            case Unload():
                self._own(connection, message.request_id)
                self._apply(self._scheduler.unload(message, now))
            case Cancel(request_id=request_id) if request_id in connection.request_ids:
                self._apply(self._scheduler.cancel(request_id, now))
            case ListLoaded(request_id=request_id):
                connection.send(LoadedModels(request_id=request_id, models=self._loaded(now)))
            case Ping():
                connection.send(Pong())

    def _own(self, connection: Connection, request_id: str) -> None:
        self._all_ended.clear()
        self._owners[request_id] = connection
        connection.request_ids.add(request_id)

    def _loaded(self, now: float) -> tuple[LoadedModel, ...]:
        models = []
        for runner in self._scheduler.runners:
            opened = self._processes[runner.key].opened if runner.key in self._processes else None
            if opened is None or runner.state is RunnerState.STOPPING:
                continue
            left_s = runner.keep_alive_s if runner.running else runner.expires_at - now
            models.append(
                LoadedModel(
                    name=runner.model.name,
                    digest=runner.model.digest,
                    size_bytes=opened.size_bytes,
                    size_vram_bytes=opened.size_vram_bytes,
                    context_length=opened.context_length,
                    expires_in_s=None if left_s == float("inf") else left_s,
                )
            )
        return tuple(sorted(models, key=_expiry_of, reverse=True))

    # ------------------------------------------------------------ runners

    def runner_opened(self, key: str, opened: Opened) -> None:
        """A runner has loaded its model."""
        self._use_extra_buffers = self._processes[key].request.use_extra_buffers
        logger.info("model %s is loaded: %.0f MB", key[:12], opened.size_bytes / 1e6)
        self._apply(self._scheduler.runner_ready(key, time.monotonic()))

    def runner_events(self, key: str, events: tuple[Event, ...]) -> None:
        """A runner has done one step: pass the events on, one frame for each connection."""
        frames: dict[Connection, list[Event]] = {}
        ended = []
        for event in events:
            connection = self._owners.get(event.request_id)
            if connection is not None:
                frames.setdefault(connection, []).append(self._completed(event))
            if isinstance(event, Finished | Failed):
                ended.append(event.request_id)
        for connection, own in frames.items():
            connection.send(Events(events=tuple(own)))
        now = time.monotonic()
        for request_id in ended:
            self._disown(request_id)
            self._apply(self._scheduler.ended(key, request_id, now))

    def runner_ended(self, key: str, message: str, *, was_open: bool) -> None:
        """A runner's process is gone."""
        del self._processes[key]
        now = time.monotonic()
        if was_open:
            logger.info("runner %s has ended: %s", key[:12], message)
            self._apply(self._scheduler.runner_gone(key, message, now))
        else:
            logger.error("runner %s did not start: %s", key[:12], message)
            self._apply(self._scheduler.runner_failed(key, message, now))

    def _completed(self, event: Event) -> Event:
        """Return a runner's event with what only the node knows."""
        if not isinstance(event, Finished):
            return event
        load_ns = self._load_ns.get(event.request_id, 0)
        usage = structs.replace(event.usage, load_ns=load_ns, queue_ns=load_ns)
        return structs.replace(event, usage=usage)

    # ------------------------------------------------------------ actions

    def _apply(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Dispatch(key=key, request=request, load_ns=load_ns):
                    self._load_ns[request.request_id] = load_ns
                    self._processes[key].send(request)
                case CancelOnRunner(key=key, request_id=request_id):
                    self._processes[key].send(Cancel(request_id=request_id))
                case StartRunner():
                    self._start_runner(action)
                case StopRunner(key=key):
                    self._processes[key].stop()
                case End(event=event):
                    if connection := self._owners.get(event.request_id):
                        connection.send(Events(events=(event,)))
                    self._disown(event.request_id)
        self._schedule_tick()

    def _start_runner(self, action: StartRunner) -> None:
        config = self._config
        request = OpenModel(
            path=str(config.weights_path(action.model.weights)),
            options=action.options,
            parallel=config.parallel,
            threads=config.effective_threads,
            use_extra_buffers=self._use_extra_buffers,
        )
        logger.info("loading %s", action.model.name)
        process = self._processes[action.key] = RunnerProcess(action.key, request, self)
        process.start(load_timeout_s=config.load_timeout_s)

    def _disown(self, request_id: str) -> None:
        self._load_ns.pop(request_id, None)
        connection = self._owners.pop(request_id, None)
        if connection is not None:
            connection.request_ids.discard(request_id)
        if not self._owners:
            self._all_ended.set()

    def _schedule_tick(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        at = self._scheduler.next_expiry()
        if at is not None and at != float("inf"):
            delay_s = max(0.0, at - time.monotonic())
            self._expiry = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._apply(self._scheduler.tick(time.monotonic()))

    # ------------------------------------------------------------ the end

    async def drain(self) -> None:
        """Refuse what waits, let what runs finish within the drain time, stop every runner."""
        self._apply(self._scheduler.drain())
        if self._owners:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.drain_s):
                    await self._all_ended.wait()
        if self._expiry is not None:
            self._expiry.cancel()
        processes = list(self._processes.values())
        for process in processes:
            process.stop()
        await asyncio.gather(*(process.wait() for process in processes))
        for connection in list(self._connections):
            connection.close()


def _expiry_of(model: LoadedModel) -> float:
    return float("inf") if model.expires_in_s is None else model.expires_in_s


async def serve(config: EngineConfig, stopping: asyncio.Event) -> None:
    """Serve on the configured socket until `stopping` is set, then drain."""
    node = Node(config)
    # A socket file of a process that was killed stands in the way.
    config.socket_path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(node.serve_connection, path=config.socket_path)
    config.socket_path.chmod(0o600)
    logger.info("inference node %s is listening, %d threads", config.name, config.effective_threads)
    await stopping.wait()
    logger.info("draining")
    server.close()
    await node.drain()
    config.socket_path.unlink(missing_ok=True)


def run(config: EngineConfig) -> None:
    """Run the node until SIGTERM or SIGINT."""

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await serve(config, stopping)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
