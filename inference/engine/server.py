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
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from msgspec import structs

from inference.engine import machine
from inference.engine.accounts import Accounts
from inference.engine.actions import (
    Action,
    AllowLoad,
    CancelOnRunner,
    Dispatch,
    End,
    PauseOnRunner,
    ResumeOnRunner,
    StartRunner,
    StopRunner,
)
from inference.engine.blob_cache import BlobCache, FetchFailed
from inference.engine.config import EngineConfig
from inference.engine.connection import Connection
from inference.engine.devices import find_devices
from inference.engine.line import RunnerState
from inference.engine.memory import Capacity, format_bytes, need_of, taken_by
from inference.engine.meters import Meters, ModelMeter
from inference.engine.opening_order import opening_order
from inference.engine.owners import Owners
from inference.engine.recall import Recall
from inference.engine.runner_messages import (
    Measured,
    Opened,
    OpenModel,
    Pause,
    Proceed,
    Resume,
    Step,
)
from inference.engine.runner_process import RunnerProcess
from inference.engine.scheduler import Scheduler
from inference.engine.telling import Reporter, loaded_models
from inference.engine.thread_memo import ThreadMemo
from inference.engine.watchdog import Watchdog
from inference.frames import FrameDecoder, ProtocolError
from inference.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Embed,
    Event,
    Events,
    Failed,
    Finished,
    Generate,
    GetCounters,
    GetEnds,
    GetMetrics,
    GetQueue,
    Hello,
    ListLoaded,
    Load,
    LoadedModels,
    NodeReport,
    Ping,
    Pong,
    ToNode,
    Unload,
    Welcome,
    Wire,
    Withdraw,
    Withdrawn,
)
from inference.node_journal import NodeJournal

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 256 * 1024
_STORE_SHARE: Final = 8


class Node:
    """Everything of one machine's engine that is not a connection or a process itself."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.devices = config.devices
        self._supply: BlobCache | None = None
        self._scheduler = Scheduler(
            parallel=config.parallel,
            max_loaded=config.max_loaded,
            max_queue=config.max_queue,
            keep_alive_s=config.keep_alive_s,
            capacity=self._capacity,
        )
        self._journal = NodeJournal(config.ends_dir) if config.ends_dir else None
        self._recall = Recall(config.ends_dir)
        self._meters = Meters()
        self._accounts = Accounts(self._journal, time.perf_counter_ns, self._meters)
        self._began_at = time.monotonic()
        self._memo = ThreadMemo(config.state_dir, cpus=machine.cpu_count())
        self._processes: dict[str, RunnerProcess] = {}
        self._owners = Owners(self._take_in)
        self._connections: set[Connection] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._watchdog = Watchdog(
            self._processes, self._scheduler.running_on, limit_s=config.watchdog_s
        )
        self._reporter = Reporter(self._report, lambda: bool(self._connections))
        # Until a runner has crashed with them on this machine.
        self._use_extra_buffers = True

    def supply_with(self, supply: BlobCache) -> None:
        """From now on files that are not here come from there."""
        self._supply = supply

    def files_in_use(self) -> set[str]:
        """Return the digests of all files that a runner has or will open."""
        return {digest for runner in self._scheduler.runners for digest in runner.model.files}

    def let_go(self) -> None:
        """Have every model leave as soon as it is idle."""
        self._apply(self._scheduler.let_go(time.monotonic()))

    # ------------------------------------------------------------ web processes

    async def serve_connection(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: Sequence[Wire] = (),
    ) -> None:
        """Serve one web process until it leaves. `first` has been read from it already."""
        connection = Connection(writer)
        decoder: FrameDecoder[Wire] = FrameDecoder(ToNode)
        self._connections.add(connection)
        try:
            for message in first:
                self._receive(connection, message)
            while data := await reader.read(_READ_BYTES):
                for message in decoder.feed(data):
                    self._receive(connection, message)
        except (OSError, ProtocolError) as error:
            logger.warning("connection of a web process failed: %s", error)
        finally:
            self._connections.discard(connection)
            self._owners.forget_copies(connection)
            for request_id in sorted(connection.request_ids):
                self._apply(self._scheduler.cancel(request_id, time.monotonic()))
            writer.close()

    def _receive(self, connection: Connection, message: Wire) -> None:
        now = time.monotonic()
        match message:
            case Hello(protocol=protocol, client=client):
                at_ms = time.time_ns() // 10**6
                name = self._config.name
                connection.send(Welcome(protocol=PROTOCOL_VERSION, node=name, at_ms=at_ms))
                if protocol != PROTOCOL_VERSION:
                    logger.error("%s speaks protocol %d; refused", client, protocol)
                    connection.close()
                connection.is_greeted = True
                connection.send(self._stand())
                self._reporter.changed()
            case Generate() | Embed() | Load():
                self._take_in(connection, message)
            case Unload():
                self._own(connection, message)
                self._apply(self._scheduler.unload(message, now))
            case Cancel(request_id=request_id):
                self._owners.drop_copy(request_id, of=connection)
                if request_id in connection.request_ids:
                    self._apply(self._scheduler.cancel(request_id, now))
            case Withdraw(request_id=question_id, withdrawn_id=request_id):
                was_there = request_id in self._owners
                self._owners.drop_copy(request_id)
                self._apply(self._scheduler.cancel(request_id, now))
                connection.send(Withdrawn(request_id=question_id, was_there=was_there))
            case _:
                self._answer(connection, message, now)

    def _answer(self, connection: Connection, message: Wire, now: float) -> None:
        """Answer a question that changes nothing."""
        match message:
            case ListLoaded(request_id=request_id):
                connection.send(self._told(request_id, now))
            case GetQueue(request_id=request_id):
                state = self._scheduler.queue_state(request_id, now)
                running = tuple(map(self._accounts.told, state.on_slots))
                connection.send(structs.replace(state, on_slots=running))
            case Ping():
                connection.send(Pong())
            case GetCounters(request_id=request_id):
                connection.send(self._accounts.counters(request_id))
            case GetEnds():
                self._recall.answer(connection, message)
            case GetMetrics(request_id=request_id):
                state = self._scheduler.queue_state(request_id, now)
                up_s = now - self._began_at
                connection.send(self._meters.told(state, node=self._config.name, up_s=up_s))

    def _take_in(self, connection: Connection, request: Generate | Embed | Load) -> None:
        """Begin a request. One that has come by a connection that was lost since ends first."""
        now = time.monotonic()
        if request.request_id in self._owners:
            self._owners.wait_for_first(connection, request)
            self._apply(self._scheduler.cancel(request.request_id, now))
        else:
            self._own(connection, request)
            self._apply(self._scheduler.submit(request, now))

    def _own(self, connection: Connection, request: Generate | Embed | Load | Unload) -> None:
        self._accounts.open(request)
        self._owners.own(connection, request.request_id)

    def _told(self, request_id: str, now: float) -> LoadedModels:
        total = self._capacity().total_bytes
        return LoadedModels(
            request_id=request_id,
            models=loaded_models(self._scheduler, self._processes, now),
            node=self._config.name,
            memory_bytes=None if total == float("inf") else int(total),
            failures=self._scheduler.load_failures(now),
        )

    def _report(self) -> None:
        """Tell everybody who has said hello how the node stands."""
        report = self._stand()
        for connection in self._connections:
            if connection.is_greeted:
                connection.send(report)

    def _stand(self) -> NodeReport:
        total = self._capacity().total_bytes
        return structs.replace(
            self._scheduler.report(),
            node=self._config.name,
            total_bytes=None if total == float("inf") else int(total),
            devices=self.devices,
            blobs=self._supply.digests if self._supply else None,
        )

    # ------------------------------------------------------------ runners

    def runner_measured(self, key: str, measured: Measured) -> None:
        """A runner knows what its model takes."""
        request = self._processes[key].request
        if not isinstance(request, OpenModel):
            return  # an upstream's takes nothing
        files = [request.projector, *(adapter.path for adapter in request.adapters)]
        need = need_of(
            measured,
            files_bytes=sum(machine.file_bytes(path) for path in files if path),
            store_bytes=request.prefix_store_bytes,
        )
        self._apply(self._scheduler.runner_measured(key, need, time.monotonic()))

    def runner_opened(self, key: str, opened: Opened) -> None:
        """A runner has loaded its model."""
        runner = self._scheduler.runner(key)
        request = self._processes[key].request
        if isinstance(request, OpenModel):
            self._use_extra_buffers = request.use_extra_buffers
            is_measured = not request.threads and not request.options.num_thread
            if is_measured and opened.threads:
                self._memo.remember(runner.model.weights, opened.threads)
        logger.info(
            "%s is loaded: %s, estimated %s; %d threads",
            runner.model.name,
            format_bytes(opened.size_bytes),
            format_bytes(runner.need.system_bytes + runner.need.gpu_bytes),
            opened.threads,
        )
        now = time.monotonic()
        self._meter(key).load.add(now - runner.started_at)
        self._apply(self._scheduler.runner_ready(key, now, taken_by(opened)))
        self._warn_of_excess()

    def runner_stepped(self, key: str, step: Step) -> None:
        """A runner has done one step: pass the events on, one frame for each connection."""
        frames: dict[Connection, list[Event]] = {}
        ended = []
        self._accounts.charge(step.charges)
        for event in map(self._accounts.complete, step.events):
            connection = self._owners.of(event.request_id)
            if connection is not None:
                frames.setdefault(connection, []).append(event)
            if isinstance(event, Finished | Failed):
                ended.append(event.request_id)
        for connection, own in frames.items():
            connection.send(Events(events=tuple(own)))
        now = time.monotonic()
        actions = self._scheduler.charged(key, step.charges, now) if step.charges else []
        for request_id in ended:
            self._owners.disown(request_id)
            actions += self._scheduler.ended(key, request_id, now)
        if step.size_bytes:
            actions += self._resized(key, step)
        if actions or ended:
            self._apply(actions)

    def _resized(self, key: str, step: Step) -> list[Action]:
        """A runner takes more than when it was opened: a context for embedding was made."""
        process = self._processes[key]
        if process.opened is None:
            return []
        sizes = {"size_bytes": step.size_bytes, "size_vram_bytes": step.size_vram_bytes}
        process.opened = structs.replace(process.opened, **sizes)
        actions = self._scheduler.runner_resized(key, taken_by(process.opened))
        self._warn_of_excess()
        return actions

    def _warn_of_excess(self) -> None:
        if (room := self._scheduler.room_bytes()) < 0:
            logger.warning("models take %s more memory than they should", format_bytes(-room))

    def runner_ended(self, key: str, message: str, *, was_open: bool) -> None:
        """A runner's process is gone."""
        del self._processes[key]
        self._watchdog.forget(key)
        now = time.monotonic()
        is_wanted = self._scheduler.runner(key).state is not RunnerState.STOPPING
        if was_open:
            self._meter(key).crashes += is_wanted
            logger.info("runner %s has ended: %s", key[:12], message)
            self._apply(self._scheduler.runner_gone(key, message, now))
        else:
            self._meter(key).load_failures += is_wanted
            logger.error("runner %s did not start: %s", key[:12], message)
            self._apply(self._scheduler.runner_failed(key, message, now))

    def _meter(self, key: str) -> ModelMeter:
        return self._meters.of(self._scheduler.runner(key).model.name)

    # ------------------------------------------------------------ actions

    def _apply(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartRunner():
                    self._start_runner(action)
                case StopRunner(key=key, reason=reason):
                    logger.info("runner %s is stopped: %s", key[:12], reason)
                    self._meter(key).stopped(reason)
                    self._processes[key].stop()
                case End():
                    event = self._accounts.complete(action.event)
                    if connection := self._owners.of(event.request_id):
                        connection.send(Events(events=(event,)))
                    self._owners.disown(event.request_id)
                case _:
                    self._tell_runner(action)
        self._schedule_tick()
        self._reporter.changed()

    def _tell_runner(
        self, action: AllowLoad | Dispatch | PauseOnRunner | ResumeOnRunner | CancelOnRunner
    ) -> None:
        process = self._processes[action.key]
        match action:
            case AllowLoad(memory_limit_bytes=limit):
                process.proceed(Proceed(memory_limit_bytes=limit))
            case Dispatch(request=request):
                self._accounts.dispatched(
                    request.request_id,
                    load_ns=action.load_ns,
                    queue_ns=action.queue_ns,
                    position=action.position,
                )
                self._watchdog.watch_over(process)
                process.send(request)
            case PauseOnRunner(request_id=request_id):
                process.send(Pause(request_id=request_id))
            case ResumeOnRunner(request_id=request_id):
                process.send(Resume(request_id=request_id))
            case CancelOnRunner(request_id=request_id):
                process.send(Cancel(request_id=request_id))

    def _start_runner(self, action: StartRunner) -> None:
        config = self._config
        logger.info("loading %s", action.model.name)
        order = opening_order(
            config,
            action,
            threads=config.threads or self._memo.recall(action.model.weights),
            use_extra_buffers=self._use_extra_buffers,
            store_bytes=self._store_bytes(),
        )
        process = RunnerProcess(action.key, order, self, spin=config.runner_spin)
        self._processes[action.key] = process
        process.start(load_timeout_s=config.load_timeout_s, prepare=self._fetching(action))

    def _fetching(self, action: StartRunner) -> Callable[[], Awaitable[str]] | None:
        """Return what brings a model's files here; None: they are here."""
        supply, files = self._supply, action.model.files
        if supply is None or supply.has(files):
            return None
        runner = self._scheduler.runner(action.key)
        runner.is_fetching = True

        async def fetch() -> str:
            try:
                await supply.bring(files)
            except FetchFailed as error:
                return str(error)
            runner.is_fetching = False
            return ""

        return fetch

    def _capacity(self) -> Capacity:
        """Return what models may take: of the operator's limit, or of what the machine has now."""
        if self._config.memory_limit_bytes is not None:
            return Capacity(total_bytes=self._config.memory_limit_bytes)
        return machine.read_capacity()

    def _store_bytes(self) -> int:
        """Return what a runner may keep of KV states: on a small machine less than configured."""
        share = self._capacity().total_bytes / _STORE_SHARE
        return int(min(self._config.prefix_store_bytes, share))

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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await self._owners.wait_until_none_left()
        self._reporter.close()
        self._watchdog.close()
        self._recall.close()
        if self._expiry is not None:
            self._expiry.cancel()
        processes = list(self._processes.values())
        for process in processes:
            process.stop()
        await asyncio.gather(*(process.wait() for process in processes))
        for connection in list(self._connections):
            connection.close()
        if self._journal is not None:
            self._journal.close()


async def _look_for_devices(node: Node) -> None:
    node.devices = await find_devices()


async def serve(config: EngineConfig, stopping: asyncio.Event) -> None:
    """Serve on the configured socket until `stopping` is set, then drain."""
    node = Node(config)
    # A socket file of a process that was killed stands in the way.
    config.socket_path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(node.serve_connection, path=config.socket_path)
    config.socket_path.chmod(0o600)
    looking = asyncio.create_task(_look_for_devices(node))
    logger.info("inference node %s is listening, %d threads", config.name, config.effective_threads)
    await stopping.wait()
    logger.info("draining")
    server.close()
    looking.cancel()
    await node.drain()
    await asyncio.wait([looking])
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
