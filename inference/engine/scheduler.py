"""Which model is in memory and which request goes to it when. Pure: no I/O, no clock of its own.

Every method takes the time (monotonic seconds) and returns actions for the node to carry out; what
came of them is told back through the `runner_*` and `ended` methods. So a week of traffic can be
played in a second. Every submitted request is ended by exactly one `End` action or `ended` call.

Rules (contract/ollama.md 7): keep_alive counts from the end of the last request and an explicit
value sticks; a model in use is never evicted; an idle one with the shortest keep_alive goes first;
requests of one model are served in order of arrival.
"""

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from inference.messages import (
    DoneReason,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Load,
    ModelRef,
    RunnerOptions,
    Unload,
    Usage,
)

BUSY = "server busy, please try again.  maximum pending requests exceeded"


@dataclass(frozen=True, slots=True)
class StartRunner:
    """Start a runner for a model."""

    key: str
    model: ModelRef
    options: RunnerOptions


@dataclass(frozen=True, slots=True)
class StopRunner:
    """Stop a runner; `runner_gone` tells when it is gone."""

    key: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send a request to its runner. `load_ns`: arrival until now."""

    key: str
    request: Generate
    load_ns: int


@dataclass(frozen=True, slots=True)
class CancelOnRunner:
    """Tell a runner that a request is not wanted any more; its event ends it."""

    key: str
    request_id: str


@dataclass(frozen=True, slots=True)
class End:
    """Tell the client how its request ended."""

    event: Finished | Failed


Action = StartRunner | StopRunner | Dispatch | CancelOnRunner | End


class RunnerState(enum.Enum):
    """Where a runner is in its life."""

    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(slots=True)
class Runner:
    """A model in memory, on its way in, or on its way out."""

    key: str
    model: ModelRef
    options: RunnerOptions
    keep_alive_s: float
    state: RunnerState = RunnerState.LOADING
    running: set[str] = field(default_factory=set)
    expires_at: float = float("inf")

    def suits(self, wanted: RunnerOptions) -> bool:
        """Whether a request with these options can be served without a reload.

        A larger window than asked for will do; what the request leaves open does not matter.
        """
        has = self.options
        if wanted.num_ctx > has.num_ctx or wanted.num_batch != has.num_batch:
            return False
        pairs = (
            (wanted.num_gpu, has.num_gpu),
            (wanted.main_gpu, has.main_gpu),
            (wanted.use_mmap, has.use_mmap),
            (wanted.num_thread, has.num_thread),
        )
        return all(want is None or want == have for want, have in pairs)


@dataclass(slots=True)
class _Waiting:
    request: Generate | Load
    arrived_at: float


class Scheduler:
    """The state of one node. `parallel`: requests at once on one runner."""

    def __init__(
        self, *, parallel: int, max_loaded: int, max_queue: int, keep_alive_s: float
    ) -> None:
        self._parallel = parallel
        self._max_loaded = max_loaded
        self._max_queue = max_queue
        self._keep_alive_s = keep_alive_s
        self._runners: dict[str, Runner] = {}
        # One line per model, in order of each model's first arrival.
        self._lines: dict[str, deque[_Waiting]] = {}
        self._is_draining = False

    @property
    def runners(self) -> Iterable[Runner]:
        """The runners that exist, whatever their state."""
        return self._runners.values()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._lines.values()))

    @property
    def running(self) -> int:
        """How many requests are with a runner."""
        return sum(len(runner.running) for runner in self._runners.values())

    def submit(self, request: Generate | Load, now: float) -> list[Action]:
        """Accept a request, or end it at once where the queue is full."""
        if self._is_draining:
            return [_failed(request.request_id, FailureCode.SHUTTING_DOWN, "shutting down")]
        key = runner_key(request.model)
        self._lines.setdefault(key, deque()).append(_Waiting(request, now))
        actions = self._advance(now)
        # Counted after the attempt: a request that went straight to a runner never waited.
        if self.waiting > self._max_queue and self._take_waiting(request.request_id):
            actions.append(_failed(request.request_id, FailureCode.QUEUE_FULL, BUSY))
        return actions

    def unload(self, request: Unload, now: float) -> list[Action]:
        """Let a model go as soon as it is idle; answered at once, also where it is not loaded."""
        if runner := self._runners.get(runner_key(request.model)):
            runner.keep_alive_s = 0
            if not runner.running:
                runner.expires_at = now
        finished = Finished(request_id=request.request_id, reason=DoneReason.UNLOAD)
        return [End(finished), *self._advance(now)]

    def cancel(self, request_id: str, now: float) -> list[Action]:
        """End a waiting request, or tell the runner of a running one."""
        if self._take_waiting(request_id):
            ended = _failed(request_id, FailureCode.CANCELLED, "request canceled")
            return [ended, *self._advance(now)]
        for runner in self._runners.values():
            if request_id in runner.running:
                return [CancelOnRunner(runner.key, request_id)]
        return []

    def runner_ready(self, key: str, now: float) -> list[Action]:
        """A runner has loaded its model."""
        runner = self._runners[key]
        runner.state = RunnerState.READY
        runner.expires_at = now + runner.keep_alive_s
        return self._advance(now)

    def runner_failed(self, key: str, message: str, now: float) -> list[Action]:
        """A runner could not load its model: whoever waits for it is told."""
        del self._runners[key]
        line = self._lines.pop(key, deque())
        failures: list[Action] = [
            _failed(waiting.request.request_id, FailureCode.LOAD_FAILED, message)
            for waiting in line
        ]
        return failures + self._advance(now)

    def runner_gone(self, key: str, message: str, now: float) -> list[Action]:
        """A runner's process has ended; its requests fail, who waits gets a new one."""
        runner = self._runners.pop(key)
        failures: list[Action] = [
            _failed(request_id, FailureCode.RUNNER_CRASHED, message)
            for request_id in sorted(runner.running)
        ]
        return failures + self._advance(now)

    def ended(self, key: str, request_id: str, now: float) -> list[Action]:
        """A runner has sent the last event of a request."""
        runner = self._runners.get(key)
        if runner is None:
            return []
        runner.running.discard(request_id)
        if not runner.running:
            runner.expires_at = now + runner.keep_alive_s
        return self._advance(now)

    def tick(self, now: float) -> list[Action]:
        """Let time pass: what has outlived its keep_alive is stopped."""
        return self._advance(now)

    def drain(self) -> list[Action]:
        """Refuse everything that does not run yet; what runs may finish."""
        self._is_draining = True
        waiting = [entry for line in self._lines.values() for entry in line]
        self._lines.clear()
        return [
            _failed(entry.request.request_id, FailureCode.SHUTTING_DOWN, "shutting down")
            for entry in waiting
        ]

    def next_expiry(self) -> float | None:
        """Return when `tick` has something to do next, or None."""
        idle = [r.expires_at for r in self._runners.values() if self._is_idle(r)]
        return min(idle, default=None)

    def _advance(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for key in list(self._lines):
            actions += self._serve_line(key, now)
        for runner in list(self._runners.values()):
            if self._is_idle(runner) and runner.expires_at <= now:
                actions += self._stop(runner)
        return actions

    def _serve_line(self, key: str, now: float) -> list[Action]:
        """Serve one model's line from the front, as far as it goes."""
        actions: list[Action] = []
        line = self._lines[key]
        while line:
            request = line[0].request
            runner = self._runners.get(key)
            if runner is None:
                actions += self._make_room_or_start(key, request)
                break
            if runner.state is not RunnerState.READY:
                break
            if not runner.suits(request.runner):
                # The head of the line needs a reload; nobody behind it may keep the runner busy.
                if not runner.running:
                    actions += self._stop(runner)
                break
            if isinstance(request, Generate) and len(runner.running) >= self._parallel:
                break
            actions.append(self._admit(runner, line.popleft(), now))
        if not line:
            self._lines.pop(key, None)
        return actions

    def _admit(self, runner: Runner, entry: _Waiting, now: float) -> Action:
        request = entry.request
        runner.model = request.model
        if request.keep_alive_s is not None:
            runner.keep_alive_s = request.keep_alive_s
        load_ns = int((now - entry.arrived_at) * 1e9)
        if isinstance(request, Generate):
            runner.running.add(request.request_id)
            return Dispatch(runner.key, request, load_ns)
        if not runner.running:
            runner.expires_at = now + runner.keep_alive_s
        return End(
            Finished(
                request_id=request.request_id,
                reason=DoneReason.LOAD,
                usage=Usage(load_ns=load_ns),
            )
        )

    def _make_room_or_start(self, key: str, request: Generate | Load) -> list[Action]:
        if len(self._runners) < self._max_loaded:
            keep_alive_s = self._keep_alive_s
            if request.keep_alive_s is not None:
                keep_alive_s = request.keep_alive_s
            self._runners[key] = Runner(key, request.model, request.runner, keep_alive_s)
            return [StartRunner(key, request.model, request.runner)]
        if any(runner.state is RunnerState.STOPPING for runner in self._runners.values()):
            return []  # room is being made already
        idle = [runner for runner in self._runners.values() if self._is_idle(runner)]
        if not idle:
            return []
        return self._stop(min(idle, key=lambda runner: (runner.keep_alive_s, runner.expires_at)))

    def _stop(self, runner: Runner) -> list[Action]:
        runner.state = RunnerState.STOPPING
        return [StopRunner(runner.key)]

    def _is_idle(self, runner: Runner) -> bool:
        """Whether a runner could go: ready, nothing running, nobody at its door."""
        return (
            runner.state is RunnerState.READY
            and not runner.running
            and runner.key not in self._lines
        )

    def _take_waiting(self, request_id: str) -> bool:
        for key, line in self._lines.items():
            for entry in line:
                if entry.request.request_id == request_id:
                    line.remove(entry)
                    if not line:
                        del self._lines[key]
                    return True
        return False


def runner_key(model: ModelRef) -> str:
    """Return what identifies a runner: models with the same weights share one."""
    return model.weights


def _failed(request_id: str, code: FailureCode, message: str) -> End:
    return End(Failed(request_id=request_id, code=code, message=message))
