"""What tests of the scheduler need: one to play with, requests, and what came of them."""

from dataclasses import dataclass

from msgspec import structs

from inference.engine.actions import Action, End
from inference.engine.memory import Capacity, Need
from inference.engine.scheduler import Scheduler
from inference.messages import Failed, Generate
from tests.inference.engine.fake_model import generate


@dataclass
class Machine:
    """How much memory there is; a test may change it."""

    capacity: Capacity

    def __call__(self) -> Capacity:
        return self.capacity


def new_scheduler(capacity: Capacity | None = None, **changes: int) -> Scheduler:
    values = {"parallel": 2, "max_loaded": 2, "max_queue": 10} | changes
    machine = Machine(capacity or Capacity())
    return Scheduler(**values, keep_alive_s=300.0, capacity=machine)


def asked(name: str, weights: str = "w1", **changes: object) -> Generate:
    """Return a request of the user that its first letter names."""
    is_pinned = bool(changes.pop("is_pinned", False))
    request = generate(name, weights=weights)
    model = structs.replace(request.model, is_pinned=is_pinned, name=weights)
    return structs.replace(request, model=model, user=name[0], **changes)


def ready(scheduler: Scheduler, key: str = "w1", size: int = 0, **changes: object) -> None:
    """Load a model and leave it idle at second 0."""
    scheduler.submit(asked(f"x{key}", key, **changes), 0.0)
    scheduler.runner_measured(key, Need(system_bytes=size), 0.0)
    scheduler.runner_ready(key, 0.0)
    scheduler.ended(key, f"x{key}", 0.0)


def kinds(actions: list[Action]) -> list[type]:
    return [type(action) for action in actions]


def failures(actions: list[Action]) -> list[Failed]:
    return [a.event for a in actions if isinstance(a, End) and isinstance(a.event, Failed)]
