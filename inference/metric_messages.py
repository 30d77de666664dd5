"""What a node counts and how long things take in it, as it tells web processes.

Part of `inference.messages`. All figures are sums since the node began. A `Spread` tells durations
as Prometheus counts them, but for its counts, which are those of each interval alone. Knows no
Prometheus.
"""

from typing import Annotated, Final

import msgspec

from inference.node_messages import Part, Priority, Wire

# Upper bounds in seconds; what is longer is counted behind the last.
WAIT_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
STEP_BOUNDS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0)
_INTERVALS: Final = len(WAIT_BOUNDS_S) + 1  # of the other bounds as well
# Why a model left memory.
STOP_REASONS: Final = ("idle", "place", "memory", "options", "other")


class GetMetrics(Wire, frozen=True):
    """Ask what has been counted. Answered by one NodeMetrics."""

    request_id: str


class Spread(Part, frozen=True, array_like=True):
    """How many durations were in each interval of some bounds, and their sum."""

    counts: Annotated[tuple[int, ...], msgspec.Meta(min_length=_INTERVALS, max_length=_INTERVALS)]
    sum_s: float = 0.0


class ModelMetrics(Part, frozen=True, kw_only=True):
    """A model's figures. `model` is a label (`inference.model_labels`), not always a name.

    Tokens that were computed are counted with each step, paused and cancelled requests included;
    those of `prompt_tokens`, `cached_tokens` and `completion_tokens` at each request's end, as its
    client is told.
    """

    model: str
    done: int = 0
    failures: dict[str, int]  # by FailureCode
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    computed_prompt_tokens: int = 0
    computed_completion_tokens: int = 0
    first_token: Spread  # from a request's arrival at the node
    between_tokens: Spread  # of one answer, pauses included
    queue: Spread  # what a request has waited for its turn
    load: Spread  # from a runner's start until its model can be used
    step: Spread  # one pass of the model over all that it is asked
    load_failures: int = 0
    crashes: int = 0
    stops: dict[str, int]  # by one of STOP_REASONS


class ClassLoad(Part, frozen=True):
    """The requests of one class now. `oldest_s`: how long the one that came first has waited."""

    priority: Priority
    waiting: int = 0
    running: int = 0
    oldest_s: float = 0.0


class NodeMetrics(Wire, frozen=True):
    """Answer to GetMetrics."""

    request_id: str
    node: str
    up_s: float
    slots: int  # of the loaded models together
    classes: tuple[ClassLoad, ...]
    # As many as `inference.model_labels` knows, and the others together.
    models: Annotated[tuple[ModelMetrics, ...], msgspec.Meta(max_length=33)]
