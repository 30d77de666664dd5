"""What the scheduler tells the node to do. Plain values; knows nothing of how it is done."""

import enum
from dataclasses import dataclass, field

from inference.messages import (
    Embed,
    Failed,
    FailureCode,
    Finished,
    Generate,
    ModelRef,
    RunnerOptions,
)


class StopReason(enum.StrEnum):
    """Why a runner is stopped, where no sentence with figures says it."""

    IDLE = "it was idle"
    PLACE = "another model needs its place"
    TURN = "another model has its turn"
    MEMORY = "memory is needed"
    OPTIONS = "other options are asked for"
    UNWANTED = "nobody waits for it any more"


@dataclass(frozen=True, slots=True)
class StartRunner:
    """Start a runner for a model; it measures first and waits for `AllowLoad`."""

    key: str
    model: ModelRef
    options: RunnerOptions


@dataclass(frozen=True, slots=True)
class AllowLoad:
    """Let a runner load what it has measured. The limit is of address space; 0: none."""

    key: str
    memory_limit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StopRunner:
    """Stop a runner; `runner_gone` or `runner_failed` tells when it is gone."""

    key: str
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send a request to its runner.

    `load_ns`: arrival until now; `queue_ns`: of that, what it waited for a turn, not for the
    model; `position`: its place in the line when it came, 0: it did not wait.
    """

    key: str
    request: Generate | Embed
    load_ns: int
    queue_ns: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class PauseOnRunner:
    """Take a request off its slot."""

    key: str
    request_id: str


@dataclass(frozen=True, slots=True)
class ResumeOnRunner:
    """Let a paused request go on."""

    key: str
    request_id: str


@dataclass(frozen=True, slots=True)
class CancelOnRunner:
    """Tell a runner that a request is not wanted any more; its event ends it."""

    key: str
    request_id: str


@dataclass(frozen=True, slots=True)
class End:
    """Tell the client how its request ended."""

    event: Finished | Failed


Action = (
    StartRunner
    | AllowLoad
    | StopRunner
    | Dispatch
    | PauseOnRunner
    | ResumeOnRunner
    | CancelOnRunner
    | End
)


def failed(request_id: str, code: FailureCode, message: str) -> End:
    """Return the bad end of a request."""
    return End(Failed(request_id=request_id, code=code, message=message))
