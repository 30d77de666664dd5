"""What a node counts of each model: requests, tokens, how long things take. Pure.

Every token of every answer passes here, so an observation is a bisection and two additions. Knows
no clock, no scheduling and no Prometheus.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final

from inference.engine.actions import StopReason
from inference.messages import Failed, Finished, Priority, QueueState
from inference.metric_messages import (
    STEP_BOUNDS_S,
    STOP_REASONS,
    WAIT_BOUNDS_S,
    ClassLoad,
    ModelMetrics,
    NodeMetrics,
    Spread,
)
from inference.model_labels import ModelLabels

_NS: Final = 10**9
# What the scheduler says of a runner that it stops for memory begins so.
EXCESS: Final = "models take"  # so much more than they should
_STOPS: Final[dict[str, str]] = {
    StopReason.IDLE: "idle",
    StopReason.PLACE: "place",
    StopReason.TURN: "place",
    StopReason.MEMORY: "memory",
    StopReason.OPTIONS: "options",
}


class Durations:
    """How often durations fell between some bounds."""

    __slots__ = ("_bounds_ns", "_counts", "_sum_ns")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_ns = [round(bound_s * _NS) for bound_s in bounds_s]
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_ns = 0

    def add_ns(self, duration_ns: int) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds_ns, duration_ns)] += 1
        self._sum_ns += duration_ns

    def add(self, seconds: float) -> None:
        """Count one that is told in seconds."""
        self.add_ns(round(seconds * _NS))

    def told(self) -> Spread:
        """Return them as they are told."""
        return Spread(tuple(self._counts), self._sum_ns / _NS)


class ModelMeter:
    """One model's figures; whoever does something with it adds to them."""

    def __init__(self) -> None:
        self.first_token = Durations(WAIT_BOUNDS_S)
        self.between_tokens = Durations(STEP_BOUNDS_S)
        self.queue = Durations(WAIT_BOUNDS_S)
        self.load = Durations(WAIT_BOUNDS_S)
        self.step = Durations(STEP_BOUNDS_S)
        self.computed_prompt_tokens = 0
        self.computed_completion_tokens = 0
        self.load_failures = 0
        self.crashes = 0
        self._done = 0
        self._failures: Counter[str] = Counter()
        self._stops: Counter[str] = Counter()
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens = 0

    def ended(self, event: Finished | Failed) -> None:
        """Count the end of a request, with its figures."""
        if isinstance(event, Failed):
            self._failures[event.code.value] += 1
        else:
            self._done += 1
        self._prompt_tokens += event.usage.prompt_tokens
        self._cached_tokens += event.usage.cached_tokens
        self._completion_tokens += event.usage.completion_tokens

    def stopped(self, reason: str) -> None:
        """Count that the model leaves memory, for a reason in the scheduler's words."""
        is_excess = reason.startswith(EXCESS)
        self._stops["memory" if is_excess else _STOPS.get(reason, STOP_REASONS[-1])] += 1

    def told(self, model: str) -> ModelMetrics:
        """Return the figures as they are told."""
        return ModelMetrics(
            model=model,
            done=self._done,
            failures=dict(self._failures),
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            computed_prompt_tokens=self.computed_prompt_tokens,
            computed_completion_tokens=self.computed_completion_tokens,
            first_token=self.first_token.told(),
            between_tokens=self.between_tokens.told(),
            queue=self.queue.told(),
            load=self.load.told(),
            step=self.step.told(),
            load_failures=self.load_failures,
            crashes=self.crashes,
            stops=dict(self._stops),
        )


class Meters:
    """The meters of all models of a node."""

    def __init__(self) -> None:
        self._labels = ModelLabels()
        self._models: dict[str, ModelMeter] = {}

    def of(self, model: str) -> ModelMeter:
        """Return the meter of a model, by its display name."""
        label = self._labels.label(model)
        meter = self._models.get(label)
        if meter is None:
            meter = self._models[label] = ModelMeter()
        return meter

    def told(self, queue: QueueState, *, node: str, up_s: float) -> NodeMetrics:
        """Return all figures; `queue` is how it stands now and whose question is answered."""
        return NodeMetrics(
            request_id=queue.request_id,
            node=node,
            up_s=up_s,
            slots=queue.slots,
            classes=tuple(_class_load(priority, queue) for priority in Priority),
            models=tuple(meter.told(model) for model, meter in self._models.items()),
        )


def _class_load(priority: Priority, queue: QueueState) -> ClassLoad:
    waited = [entry.waited_s for entry in queue.entries if entry.priority == priority]
    return ClassLoad(
        priority=priority,
        waiting=len(waited),
        running=sum(entry.priority == priority for entry in queue.on_slots),
        oldest_s=max(waited, default=0.0),
    )
