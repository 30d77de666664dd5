"""One model's runner and the line before it: who is served next, who is paused for whom. Pure.

Rules: the fair queue says who is next; when all slots are taken somebody may be paused for them;
who needs other runner options waits until the runner is empty and nobody behind them may keep it
busy. Knows nothing of other models and of memory.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from inference.engine.actions import (
    Action,
    CancelOnRunner,
    Dispatch,
    End,
    PauseOnRunner,
    ResumeOnRunner,
    failed,
)
from inference.engine.fair_queue import Entry, FairQueue
from inference.engine.memory import Need
from inference.engine.preemption import choose_victims
from inference.engine.runner_messages import Charge
from inference.engine.service_rate import ServiceRate
from inference.messages import (
    DoneReason,
    Embed,
    FailureCode,
    Finished,
    Generate,
    Load,
    ModelRef,
    Priority,
    QueueEntry,
    RunnerOptions,
    RunningEntry,
    Usage,
)

WAITS_FOR_MEMORY: Final = "waiting for memory"
WAITS_FOR_LOADING: Final = "loading"
WAITS_FOR_FILES: Final = "fetching"
WAITS_FOR_SLOT: Final = "waiting for a slot"
IS_PAUSED: Final = "paused"
# How long a model that is always in use keeps its place while another waits for it: at least this
# long, and long enough that loading takes a fifth of the time at most.
_LEAST_TURN_S: Final = 10.0
_TURN_LOADS: Final = 4
_MOST_PAUSED: Final = 4  # for each slot
_MOST_SERVED: Final = 256  # models that an upstream's runner remembers


class RunnerState(enum.Enum):
    """Where a runner is in its life."""

    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(slots=True, eq=False)
class Runner:
    """A model in memory, on its way in, or on its way out. Times are monotonic seconds."""

    key: str
    model: ModelRef
    options: RunnerOptions
    keep_alive_s: float
    line: "Line"
    started_at: float
    state: RunnerState = RunnerState.LOADING
    expires_at: float = float("inf")
    ready_at: float = float("inf")
    measured_at: float | None = None
    is_fetching: bool = False  # its files come over the network first
    is_allowed: bool = False  # it may load what it has measured
    is_leaving: bool = False  # somebody needs its place: it takes nobody new
    need: Need = field(default_factory=lambda: Need(system_bytes=0))
    # Of an upstream's: the models it has had requests for, by digest, and their windows in tokens.
    served: dict[str, tuple[ModelRef, int]] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether it has requests, running or paused."""
        return bool(self.line.on_runner)

    @property
    def is_pinned(self) -> bool:
        """Whether it stays for good."""
        return self.model.is_pinned

    @property
    def is_upstream(self) -> bool:
        """Whether what it computes with is elsewhere: it takes no place and no memory here."""
        return self.model.upstream is not None

    @property
    def has_it_all(self) -> bool:
        """Whether it has allocated all of its memory."""
        return self.state is not RunnerState.LOADING

    @property
    def turn_ends_at(self) -> float:
        """Until when it keeps its place though another model waits for it."""
        return self.ready_at + max(_LEAST_TURN_S, _TURN_LOADS * (self.ready_at - self.started_at))

    @property
    def waits_for_memory(self) -> bool:
        """Whether it has measured and may not load yet."""
        is_measured = self.measured_at is not None
        return self.state is RunnerState.LOADING and is_measured and not self.is_allowed

    def suits(self, wanted: RunnerOptions) -> bool:
        """Whether a request with these options can be served without a reload.

        A larger window than asked for will do; what the request leaves open does not matter. An
        engine elsewhere is what it is, whichever of its models somebody asks for.
        """
        if self.is_upstream:
            return True
        has = self.options
        if wanted.num_ctx > has.num_ctx or wanted.num_batch != has.num_batch:
            return False
        pairs = (
            (wanted.num_gpu, has.num_gpu),
            (wanted.main_gpu, has.main_gpu),
            (wanted.use_mmap, has.use_mmap),
            (wanted.num_thread, has.num_thread),
            (wanted.rope_frequency_base, has.rope_frequency_base),
            (wanted.rope_frequency_scale, has.rope_frequency_scale),
            (wanted.f16_kv, has.f16_kv),
            (wanted.use_mlock, has.use_mlock),
            (wanted.numa, has.numa),
        )
        return all(want is None or want == have for want, have in pairs)

    def admit(self, request: Generate | Embed | Load) -> None:
        """Take over what a request says of the runner itself."""
        self.model = request.model
        if request.keep_alive_s is not None:
            self.keep_alive_s = request.keep_alive_s
        if self.is_upstream:
            self.served.pop(request.model.digest, None)
            self.served[request.model.digest] = request.model, request.runner.num_ctx
            if len(self.served) > _MOST_SERVED:
                del self.served[next(iter(self.served))]

    def has_requests_for(self, digest: str) -> bool:
        """Whether one of its requests is for the model with this manifest."""
        return any(e.request.model.digest == digest for e in self.line.on_runner.values())


@dataclass(slots=True, eq=False)
class WaitingLoad:
    """A request to have the model in memory; it needs no slot."""

    request: Load
    number: int
    arrived_at: float
    weight: float = 1.0
    is_paused: bool = False

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.request.request_id

    @property
    def user(self) -> str:
        """Who asked."""
        return self.request.user


class Line:
    """Everybody who waits for one runner or is on it. `parallel`: its slots."""

    def __init__(self, key: str, *, parallel: int) -> None:
        self.key = key
        self.parallel = parallel
        self._can_pause = True
        self._queue = FairQueue()
        self._loads: list[WaitingLoad] = []
        # Who found the runner unsuitable: goes first, as soon as it is empty.
        self._turn: Entry | WaitingLoad | None = None
        self._rate = ServiceRate()
        self.on_runner: dict[str, Entry] = {}  # dispatched and not ended: running or paused

    @property
    def fresh(self) -> Iterator[Entry | WaitingLoad]:
        """Whoever waits and was never dispatched."""
        yield from self._loads
        yield from (entry for entry in self._queue if not entry.is_paused)

    @property
    def fresh_count(self) -> int:
        """How many wait and were never dispatched."""
        return len(self._loads) + self._queue.fresh

    @property
    def has_waiting(self) -> bool:
        """Whether somebody waits, paused ones included."""
        return bool(self._loads) or len(self._queue) > 0

    @property
    def oldest(self) -> float:
        """When the first of those who wait has come."""
        return min((waiting.arrived_at for waiting in self.fresh), default=float("inf"))

    def counter(self, user: str) -> float:
        """Return the weighted tokens that a user has had."""
        return self._queue.counter(user)

    def add(self, request: Generate | Embed | Load, number: int, now: float) -> None:
        """Let a request wait."""
        if request.model.upstream is not None:
            # What an administrator has decided since holds from the next request on.
            self.parallel = request.model.upstream.concurrency
            self._can_pause = False  # an engine elsewhere goes on with what it has begun
        if isinstance(request, Load):
            self._loads.append(WaitingLoad(request, number, now))
            return
        self._queue.add(Entry(request, number, now, slots=self._slots_of(request)))

    def note_position(self, request_id: str, now: float) -> None:
        """Remember at which place a request that could not be served at once has to wait."""
        if entry := self._queue.waiting_of(request_id):
            entry.position = self._queue.position(entry, now, self._rate.mean_cost)

    def first(self, now: float) -> Generate | Embed | Load | None:
        """Return the request whose options the runner shall be started with."""
        if self._turn is not None:
            return self._turn.request
        best = self._queue.best(now)
        if best is not None:
            return best.request
        return self._loads[0].request if self._loads else None

    def needs_reload(self, runner: Runner) -> bool:
        """Whether whose turn it is cannot be served by the runner as it is."""
        return self._turn is not None and not runner.suits(self._turn.request.runner)

    def serve(self, runner: Runner, now: float) -> list[Action]:
        """Serve the line of a runner that is ready, as far as it goes."""
        actions = self._end_loads(runner, now)
        while (entry := self._next(runner, now)) is not None:
            entry.slots = self._slots_of(entry.request)  # an upstream's limit may have changed
            missing = self._queue.slots_taken + entry.slots - self.parallel
            if missing > 0:
                victims = self._victims(entry, missing)
                if not victims:
                    break
                actions += [self._pause(victim, now) for victim in victims]
            actions.append(self._send(runner, entry, now))
        return actions

    def cancel(self, request_id: str) -> Action | None:
        """End a fresh request, or tell the runner of one that it has; None: not in this line."""
        for load in self._loads:
            if load.request_id == request_id:
                return self.drop(load, FailureCode.CANCELLED, "request canceled")
        entry = self._queue.waiting_of(request_id)
        if entry is not None and not entry.is_paused:
            return self.drop(entry, FailureCode.CANCELLED, "request canceled")
        if request_id not in self.on_runner:
            return None
        if entry is not None:
            self._queue.leave(entry)  # it will not be resumed; the runner ends it
        return CancelOnRunner(self.key, request_id)

    def drop(self, waiting: Entry | WaitingLoad, code: FailureCode, message: str) -> End:
        """Give up a fresh request."""
        if isinstance(waiting, WaitingLoad):
            self._loads.remove(waiting)
        else:
            self._queue.leave(waiting)
        if self._turn is waiting:
            self._turn = None
        return failed(waiting.request_id, code, message)

    def drop_fresh(self, code: FailureCode, message: str) -> list[Action]:
        """Give up everybody who was never dispatched."""
        return [self.drop(waiting, code, message) for waiting in list(self.fresh)]

    def drop_dispatched(self, message: str) -> list[Action]:
        """The runner is gone, and with it what it had."""
        entries = sorted(self.on_runner.values(), key=lambda entry: entry.number)
        self.on_runner.clear()
        for entry in entries:
            self._queue.leave(entry)
        crashed = FailureCode.RUNNER_CRASHED
        return [failed(entry.request_id, crashed, message) for entry in entries]

    def ended(self, request_id: str) -> None:
        """A request on the runner has ended."""
        entry = self.on_runner.pop(request_id, None)
        if entry is not None:
            self._queue.leave(entry)
            self._rate.ended(entry.cost)

    def charge(self, charges: tuple[Charge, ...], now: float) -> None:
        """Count the tokens of one step."""
        cost = 0.0
        for charge in charges:
            entry = self.on_runner.get(charge.request_id)
            if entry is None:
                continue
            before = entry.cost
            self._queue.charge(
                entry,
                now,
                prompt_tokens=charge.prompt_tokens,
                completion_tokens=charge.completion_tokens,
            )
            cost += entry.cost - before
        self._rate.stepped(cost, now)

    def entries(self, reason: str, now: float) -> list[QueueEntry]:
        """Return who waits, in the order in which they would be served now."""
        waiting: list[Entry | WaitingLoad] = [*self._loads]
        waiting += self._queue.order(now, self._rate.mean_cost)
        if self._turn in waiting:
            waiting.remove(self._turn)
            waiting.insert(0, self._turn)
        return [
            self._described(entry, place, reason, now) for place, entry in enumerate(waiting, 1)
        ]

    def _described(
        self, waiting: Entry | WaitingLoad, position: int, reason: str, now: float
    ) -> QueueEntry:
        request = waiting.request
        since = waiting.waiting_since if isinstance(waiting, Entry) else waiting.arrived_at
        is_known = reason == WAITS_FOR_SLOT
        return QueueEntry(
            request_id=request.request_id,
            model=request.model.name,
            digest=request.model.digest,
            user=request.user,
            priority=Priority.API if isinstance(request, Load) else request.priority,
            position=position,
            reason=IS_PAUSED if waiting.is_paused else reason,
            waited_s=now - since,
            estimate_s=self._rate.wait_s(position) if is_known else None,
            key_name=request.key_name,
        )

    def running_entries(self, now: float) -> list[RunningEntry]:
        """Return who is on the runner and not paused."""
        return [
            RunningEntry(
                request_id=entry.request_id,
                model=entry.request.model.name,
                digest=entry.request.model.digest,
                user=entry.user,
                priority=entry.request.priority,
                age_s=now - entry.arrived_at,
                key_name=entry.request.key_name,
            )
            for entry in self.on_runner.values()
            if not entry.is_paused
        ]

    def _slots_of(self, request: Generate | Embed) -> int:
        choices = request.choices if isinstance(request, Generate) else 1
        return max(1, min(choices, self.parallel))

    def _end_loads(self, runner: Runner, now: float) -> list[Action]:
        """End the loads for which the runner will do; one for which it does not waits for it."""
        actions: list[Action] = []
        for load in list(self._loads):
            if not runner.suits(load.request.runner):
                self._turn = self._turn or load
                continue
            self._loads.remove(load)
            self._turn = None if self._turn is load else self._turn
            runner.admit(load.request)
            if not runner.is_busy:
                runner.expires_at = now + runner.keep_alive_s
            usage = Usage(load_ns=int((now - load.arrived_at) * 1e9))
            finished = Finished(request_id=load.request_id, reason=DoneReason.LOAD, usage=usage)
            actions.append(End(finished))
        return actions

    def _next(self, runner: Runner, now: float) -> Entry | None:
        """Return who goes to the runner next, slots permitting."""
        if runner.is_leaving or self.needs_reload(runner):
            return self._next_paused(now)
        if isinstance(self._turn, Entry):
            return self._turn
        best = self._queue.best(now)
        if best is None or best.is_paused or runner.suits(best.request.runner):
            return best
        self._turn = best
        return self._next_paused(now)

    def _next_paused(self, now: float) -> Entry | None:
        """Return who may still go on a runner that is to become empty."""
        free = self.parallel - self._queue.slots_taken
        order = self._queue.order(now, self._rate.mean_cost)
        return next((entry for entry in order if entry.is_paused and entry.slots <= free), None)

    def _victims(self, entry: Entry, missing: int) -> list[Entry]:
        """Return who is paused for an entry.

        Turns are ended only while few requests are paused: a paused one whose state the runner
        had to drop is computed again.
        """
        if not self._can_pause:
            return []
        paused = sum(other.slots for other in self.on_runner.values() if other.is_paused)
        after = paused + missing - (entry.slots if entry.is_paused else 0)
        if after > _MOST_PAUSED * self.parallel:
            return []
        return choose_victims(
            entry,
            self._queue.running,
            self._queue,
            missing,
            ends_turns=after <= self.parallel,
        )

    def _pause(self, victim: Entry, now: float) -> Action:
        self._queue.put_back(victim, now)
        return PauseOnRunner(self.key, victim.request_id)

    def _send(self, runner: Runner, entry: Entry, now: float) -> Action:
        is_resumed = entry.is_paused
        self._queue.take(entry, now)
        if is_resumed:
            return ResumeOnRunner(self.key, entry.request_id)
        if self._turn is entry:
            self._turn = None
        runner.admit(entry.request)
        self.on_runner[entry.request_id] = entry
        return Dispatch(
            self.key,
            entry.request,
            load_ns=int((now - entry.arrived_at) * 1e9),
            queue_ns=int((now - max(entry.arrived_at, min(runner.ready_at, now))) * 1e9),
            position=entry.position,
        )
