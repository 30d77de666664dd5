"""Which model is in memory and which request goes to it when. Pure: no I/O, no clock of its own.

Every method takes the time (monotonic seconds) and returns actions for the node to carry out; what
came of them is told back through the `runner_*`, `charged` and `ended` methods. So a week of
traffic can be played in a second. Every submitted request is ended by exactly one `End` action or
`ended` call.

Rules (contract/ollama.md 7): keep_alive counts from the end of the last request and an explicit
value sticks; a model in use is never evicted; an idle one with the shortest keep_alive goes first;
a pinned one stays. Beyond the contract: each model's line is served fairly (`engine.line`), and a
model that is always in use gives up its place after a turn to one that waits for it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import structs

from inference.engine.actions import (
    Action,
    AllowLoad,
    End,
    StartRunner,
    StopReason,
    StopRunner,
    failed,
)
from inference.engine.line import (
    WAITS_FOR_FILES,
    WAITS_FOR_LOADING,
    WAITS_FOR_MEMORY,
    WAITS_FOR_SLOT,
    Line,
    Runner,
    RunnerState,
)
from inference.engine.memory import (
    Capacity,
    Need,
    available_bytes,
    choose_evictions,
    format_bytes,
    lacking,
)
from inference.engine.meters import EXCESS
from inference.engine.runner_messages import Charge
from inference.messages import (
    DoneReason,
    Embed,
    FailureCode,
    Finished,
    Generate,
    Load,
    LoadFailure,
    NodeReport,
    QueueState,
    RunnerReport,
    Unload,
)

BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"
ALL_PINNED: Final = "all {count} models that may be in memory at once are pinned there"
_FAILURES_KNOWN_S: Final = 3600.0
_MOST_FAILURES: Final = 32
# Other processes may have given memory back.
_LOOK_AGAIN_S: Final = 5.0


def _unlimited() -> Capacity:
    return Capacity()


class Scheduler:
    """The state of one node. `parallel`: requests at once on one runner."""

    def __init__(
        self,
        *,
        parallel: int,
        max_loaded: int,
        max_queue: int,
        keep_alive_s: float,
        capacity: Callable[[], Capacity] = _unlimited,
    ) -> None:
        self._parallel = parallel
        self._max_loaded = max_loaded
        self._max_queue = max_queue
        self._keep_alive_s = keep_alive_s
        self._capacity = capacity
        self._runners: dict[str, Runner] = {}
        self._lines: dict[str, Line] = {}
        self._failures: dict[str, tuple[LoadFailure, float]] = {}  # by runner's key; and when
        self._arrivals = 0
        self._look_again_at = float("inf")
        self._is_draining = False

    @property
    def runners(self) -> Iterable[Runner]:
        """The runners that exist, whatever their state."""
        return self._runners.values()

    def runner(self, key: str) -> Runner:
        """Return a runner that exists."""
        return self._runners[key]

    @property
    def waiting(self) -> int:
        """How many requests wait for their first turn."""
        return sum(line.fresh_count for line in self._lines.values())

    @property
    def running(self) -> int:
        """How many requests are with a runner, paused ones included."""
        return sum(len(line.on_runner) for line in self._lines.values())

    def running_on(self, key: str) -> int:
        """Return how many requests are with one runner."""
        line = self._lines.get(key)
        return len(line.on_runner) if line else 0

    # ------------------------------------------------------------ requests

    def submit(self, request: Generate | Embed | Load, now: float) -> list[Action]:
        """Accept a request, or end it at once where the queue is full."""
        if self._is_draining:
            return [failed(request.request_id, FailureCode.SHUTTING_DOWN, "shutting down")]
        key = request.model.runner_key
        line = self._lines.setdefault(key, Line(key, parallel=self._parallel))
        self._arrivals += 1
        line.add(request, self._arrivals, now)
        actions = self._advance(now)
        line.note_position(request.request_id, now)
        # Counted after the attempt: a request that went straight to a runner never waited.
        if self.waiting > self._max_queue:
            actions += self._refuse_one(now)
        return actions

    def unload(self, request: Unload, now: float) -> list[Action]:
        """Let a model go as soon as it is idle; answered at once, also where it is not loaded."""
        runner = self._runners.get(request.model.runner_key)
        if runner is not None:
            runner.served.pop(request.model.digest, None)
        if runner is not None and not runner.served:
            pinned = request.model.is_pinned
            runner.model = structs.replace(runner.model, is_pinned=pinned)
            if not pinned:
                runner.keep_alive_s = 0
            if not pinned and not runner.is_busy:
                runner.expires_at = now
        finished = Finished(request_id=request.request_id, reason=DoneReason.UNLOAD)
        return [End(finished), *self._advance(now)]

    def cancel(self, request_id: str, now: float) -> list[Action]:
        """End a waiting request, or tell the runner of one that it has."""
        for line in self._lines.values():
            if action := line.cancel(request_id):
                return [action, *self._advance(now)]
        return []

    def let_go(self, now: float) -> list[Action]:
        """Have every model leave as soon as it is idle; nothing new shall come here."""
        for runner in self._runners.values():
            runner.keep_alive_s = 0
            if not runner.is_busy:
                runner.expires_at = now
        return self._advance(now)

    def drain(self) -> list[Action]:
        """Refuse everything that was never dispatched; what was may finish."""
        self._is_draining = True
        code = FailureCode.SHUTTING_DOWN
        lines = self._lines.values()
        return [end for line in lines for end in line.drop_fresh(code, "shutting down")]

    def queue_state(self, request_id: str, now: float) -> QueueState:
        """Return who waits for what."""
        lines = self._lines.values()
        entries = [entry for line in lines for entry in line.entries(self._reason(line), now)]
        running = [entry for line in lines for entry in line.running_entries(now)]
        ready = [r.line for r in self._runners.values() if r.state is RunnerState.READY]
        waiting = sum(1 for line in lines for entry in line.on_runner.values() if entry.is_paused)
        return QueueState(
            request_id=request_id,
            entries=tuple(sorted(entries, key=lambda e: (e.position, -e.waited_s))),
            running=self.running - waiting,
            slots=sum(line.parallel for line in ready),
            on_slots=tuple(sorted(running, key=lambda e: -e.age_s)),
        )

    def report(self) -> NodeReport:
        """Return how it stands; who the node is and what memory it has is for the node to say."""
        room = self.room_bytes()
        idle = sum(r.need.system_bytes for r in self._runners.values() if self._is_idle(r))
        homeless = [line for key, line in self._lines.items() if key not in self._runners]
        return NodeReport(
            node="",
            free_bytes=None if room == float("inf") else int(room),
            idle_bytes=idle,
            places=max(0, self._max_loaded - len(self._loaded())),
            runners=tuple(self._runner_report(runner) for runner in self._runners.values()),
            waiting=sum(line.fresh_count for line in homeless),
            is_draining=self._is_draining,
        )

    def _runner_report(self, runner: Runner) -> RunnerReport:
        return RunnerReport(
            key=runner.key,
            slots=runner.line.parallel,
            used=len(runner.line.on_runner),
            waiting=runner.line.fresh_count,
            size_bytes=runner.need.system_bytes + runner.need.gpu_bytes,
            is_ready=runner.state is RunnerState.READY,
            is_idle=self._is_idle(runner),
        )

    def load_failures(self, now: float) -> tuple[LoadFailure, ...]:
        """Return the models that could not be loaded of late, and have not been since."""
        return tuple(
            structs.replace(failure, ago_s=now - at)
            for failure, at in self._failures.values()
            if now - at < _FAILURES_KNOWN_S
        )

    # ------------------------------------------------------------ runners

    def runner_measured(self, key: str, need: Need, now: float) -> list[Action]:
        """A runner knows what its model takes and waits to be allowed to load it."""
        runner = self._runners[key]
        runner.need = need
        runner.measured_at = now
        return self._advance(now)

    def runner_ready(self, key: str, now: float, real: Need | None = None) -> list[Action]:
        """A runner has loaded its model. `real`: what it has taken, in place of the estimate."""
        runner = self._runners[key]
        if runner.state is not RunnerState.LOADING:
            return []
        runner.state = RunnerState.READY
        self._failures.pop(key, None)
        runner.is_allowed = True
        runner.ready_at = now
        runner.expires_at = now + runner.keep_alive_s
        if real is not None:
            runner.need = real
        return self._advance(now) + self._evict_excess(runner)

    def runner_resized(self, key: str, real: Need) -> list[Action]:
        """A runner takes more memory than before: idle ones may have to go for it."""
        runner = self._runners.get(key)
        if runner is None:
            return []
        runner.need = real
        return self._evict_excess(runner)

    def runner_failed(self, key: str, message: str, now: float) -> list[Action]:
        """A runner has ended before its model was loaded: whoever waits for it is told."""
        if self._runners[key].state is RunnerState.STOPPING:
            return self.runner_gone(key, message, now)
        self._forget(key)
        failures = self._fail_load(self._lines[key], FailureCode.LOAD_FAILED, message, now)
        return failures + self._advance(now)

    def runner_gone(self, key: str, message: str, now: float) -> list[Action]:
        """A runner's process has ended; its requests fail, who waits gets a new one."""
        self._forget(key)
        return self._lines[key].drop_dispatched(message) + self._advance(now)

    def charged(self, key: str, charges: tuple[Charge, ...], now: float) -> list[Action]:
        """A runner has computed tokens: somebody else may have a better claim to the slots now."""
        runner = self._runners.get(key)
        if runner is None:
            return []
        runner.line.charge(charges, now)
        if runner.state is RunnerState.READY and runner.line.has_waiting:
            return runner.line.serve(runner, now)
        return []

    def ended(self, key: str, request_id: str, now: float) -> list[Action]:
        """A runner has sent the last event of a request."""
        runner = self._runners.get(key)
        if runner is None:
            return []
        runner.line.ended(request_id)
        if not runner.is_busy:
            runner.expires_at = now + runner.keep_alive_s
        return self._advance(now)

    def tick(self, now: float) -> list[Action]:
        """Let time pass: what has outlived its keep_alive is stopped."""
        return self._advance(now)

    def next_expiry(self) -> float | None:
        """Return when `tick` has something to do next, or None."""
        idle = [r.expires_at for r in self._runners.values() if self._is_idle(r)]
        if self._look_again_at < float("inf"):
            idle.append(self._look_again_at)
        return min(idle, default=None)

    def room_bytes(self) -> float:
        """Return the system memory that is left for models; negative: there is too little."""
        holders = [runner for runner in self._runners.values() if runner.is_allowed]
        return available_bytes(self._capacity(), holders)

    # ------------------------------------------------------------ what goes on

    def _advance(self, now: float) -> list[Action]:
        self._look_again_at = float("inf")
        for runner in self._runners.values():
            runner.is_leaving = False
        actions = self._allow_loads(now) + self._start_runners(now)
        for runner in self._runners.values():
            if runner.state is RunnerState.READY:
                actions += self._serve(runner, now)
        self._lines = {
            key: line
            for key, line in self._lines.items()
            if key in self._runners or line.has_waiting
        }
        return actions

    def _serve(self, runner: Runner, now: float) -> list[Action]:
        actions = runner.line.serve(runner, now)
        if not runner.is_busy and runner.line.needs_reload(runner):
            actions += self._stop(runner, StopReason.OPTIONS)
        elif self._is_idle(runner) and runner.expires_at <= now:
            actions += self._stop(runner, StopReason.IDLE)
        return actions

    def _start_runners(self, now: float) -> list[Action]:
        """Start runners for lines that have none, the longest wait first, while there is room."""
        actions: list[Action] = []
        homeless = [line for line in self._lines.values() if line.key not in self._runners]
        is_full = False
        for line in sorted(homeless, key=lambda line: line.oldest):
            request = line.first(now)
            if request is None:
                continue
            if request.model.upstream is None and len(self._loaded()) >= self._max_loaded:
                actions += [] if is_full else self._free_a_place(line, now)
                is_full = True
                continue
            asked = request.keep_alive_s
            keep_alive_s = self._keep_alive_s if asked is None else asked
            runner = Runner(line.key, request.model, request.runner, keep_alive_s, line, now)
            self._runners[line.key] = runner
            actions.append(StartRunner(line.key, request.model, request.runner))
        return actions

    def _free_a_place(self, line: Line, now: float) -> list[Action]:
        loaded = self._loaded()
        if any(runner.state is RunnerState.STOPPING for runner in loaded):
            return []  # room is being made already
        if all(runner.is_pinned for runner in loaded):
            text = ALL_PINNED.format(count=len(loaded))
            return self._fail_load(line, FailureCode.NO_ROOM, text, now)
        if idle := self._idle():
            return self._stop(idle[0], StopReason.PLACE)
        busy = sorted(self._busy(), key=lambda runner: runner.turn_ends_at > now)
        return self._end_turns(busy[:1], now)

    def _allow_loads(self, now: float) -> list[Action]:
        """Let runners load what fits, in the order in which they have measured."""
        actions: list[Action] = []
        waiting = [runner for runner in self._runners.values() if runner.waits_for_memory]
        for runner in sorted(waiting, key=lambda runner: runner.measured_at or 0.0):
            actions += self._make_room_for(runner, now)
            if runner.waits_for_memory:
                self._look_again_at = min(self._look_again_at, now + _LOOK_AGAIN_S)
                break  # nobody overtakes, or a large model would never fit
        return actions

    def _make_room_for(self, runner: Runner, now: float) -> list[Action]:
        """Allow a measured runner to load, or evict for it, or wait, or tell that it is no use."""
        if not runner.line.has_waiting:
            return self._stop(runner, StopReason.UNWANTED)
        holders = [other for other in self._runners.values() if other.is_allowed]
        capacity = self._capacity()
        going = [other for other in holders if other.state is RunnerState.STOPPING]
        going += self._idle()
        evicted = choose_evictions(runner.need, capacity, holders, going)
        if evicted is not None:
            if not evicted:
                runner.is_allowed = True
                return [AllowLoad(runner.key, runner.need.limit_bytes)]
            return [a for other in evicted for a in self._stop(other, StopReason.MEMORY)]
        going += [other for other in holders if other not in going and not other.is_pinned]
        evicted = choose_evictions(runner.need, capacity, holders, going)
        if evicted is not None:
            return self._end_turns([other for other in self._busy() if other in evicted], now)
        text = lacking(runner.need, capacity, holders, going) or ""
        failures = self._fail_load(runner.line, FailureCode.NO_ROOM, text, now)
        return failures + self._stop(runner, text)

    def _fail_load(self, line: Line, code: FailureCode, message: str, now: float) -> list[Action]:
        """Tell everybody who waits for a model that it cannot be loaded, and remember it."""
        if request := line.first(now):
            model = request.model
            failure = LoadFailure(name=model.name, digest=model.digest, message=message, ago_s=0.0)
            self._failures.pop(line.key, None)
            self._failures[line.key] = failure, now
            if len(self._failures) > _MOST_FAILURES:
                del self._failures[next(iter(self._failures))]
        return line.drop_fresh(code, message)

    def _end_turns(self, busy: list[Runner], now: float) -> list[Action]:
        """Let busy runners take nobody new once they have had their turn."""
        actions: list[Action] = []
        for runner in busy:
            if now < runner.turn_ends_at:
                self._look_again_at = min(self._look_again_at, runner.turn_ends_at)
            elif runner.is_busy:
                runner.is_leaving = True
            else:
                actions += self._stop(runner, StopReason.TURN)
        return actions

    def _evict_excess(self, newest: Runner) -> list[Action]:
        """Evict idle runners while more memory is in use than there should be."""
        actions: list[Action] = []
        holders = [runner for runner in self._runners.values() if runner.is_allowed]
        going = [runner for runner in holders if runner.state is RunnerState.STOPPING]
        room = available_bytes(self._capacity(), holders, going)
        for runner in self._idle():
            if room >= 0:
                break
            if runner is not newest:
                text = f"{EXCESS} {format_bytes(-room)} more memory than they should"
                actions += self._stop(runner, text)
                room += runner.need.system_bytes
        return actions

    def _loaded(self) -> list[Runner]:
        """Return the runners that take a place and memory of this machine."""
        return [runner for runner in self._runners.values() if not runner.is_upstream]

    def _idle(self) -> list[Runner]:
        """Return whom to evict first: the shortest keep_alive, then the least recently used."""
        idle = [runner for runner in self._loaded() if self._is_idle(runner)]
        return sorted(idle, key=lambda runner: (runner.keep_alive_s, runner.expires_at))

    def _busy(self) -> list[Runner]:
        """Return ready runners that are in use and not pinned, in the order of their going."""
        busy = [
            runner
            for runner in self._loaded()
            if runner.state is RunnerState.READY and not runner.is_pinned
        ]
        return sorted(busy, key=lambda runner: (runner.keep_alive_s, runner.ready_at))

    def _is_idle(self, runner: Runner) -> bool:
        """Whether a runner could go: ready, not pinned, nothing running, nobody at its door."""
        is_free = not runner.is_busy and not runner.line.has_waiting
        return runner.state is RunnerState.READY and is_free and not runner.is_pinned

    def _stop(self, runner: Runner, reason: str) -> list[Action]:
        if runner.state is RunnerState.STOPPING:
            return []
        runner.state = RunnerState.STOPPING
        return [StopRunner(runner.key, reason)]

    def _forget(self, key: str) -> None:
        """Drop a runner that is gone; what it had of GPUs is free for those who have measured."""
        gone = self._runners.pop(key)
        for runner in self._runners.values():
            if runner.waits_for_memory:
                runner.need = runner.need.after_release(gone.need.gpu_bytes)

    def _refuse_one(self, now: float) -> list[Action]:
        """Refuse the last of the requests of who has most of them waiting."""
        waiting = [(line, entry) for line in self._lines.values() for entry in line.fresh]
        counts = Counter(entry.user for _, entry in waiting)
        line, entry = max(
            waiting, key=lambda pair: (counts[pair[1].user] / pair[1].weight, pair[1].number)
        )
        return [line.drop(entry, FailureCode.QUEUE_FULL, BUSY), *self._advance(now)]

    def _reason(self, line: Line) -> str:
        runner = self._runners.get(line.key)
        if runner is None or runner.waits_for_memory:
            return WAITS_FOR_MEMORY
        if runner.state is RunnerState.READY:
            return WAITS_FOR_SLOT
        return WAITS_FOR_FILES if runner.is_fetching else WAITS_FOR_LOADING
