"""Where a model did not fit when it was measured, as a node has said of late. Pure.

Before a model is loaded, what it takes can only be estimated from its files (`placement`). Who has
measured it knows better, and is not asked again for a while if there is another node. Knows no
socket and no clock of its own.
"""

from typing import Final

from inference.messages import ModelRef
from inference.placement import NodeView

# Then other models may have gone there, or something else has given memory back.
_KNOWN_S: Final = 60.0
_MOST_KNOWN: Final = 1024


class NoRoom:
    """What nodes could not load, by their names and runner keys. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._told_at: dict[tuple[str, str], float] = {}

    def note(self, node: str, model: ModelRef, now: float) -> None:
        """A node has said that a model does not fit."""
        key = node, model.runner_key
        self._told_at.pop(key, None)
        self._told_at[key] = now
        if len(self._told_at) > _MOST_KNOWN:
            del self._told_at[next(iter(self._told_at))]

    def is_known(self, view: NodeView, model: ModelRef, now: float) -> bool:
        """Whether a node would only say so again: it has lately, and it has not loaded it since."""
        told_at = self._told_at.get((view.name, model.runner_key))
        if told_at is None or now - told_at >= _KNOWN_S:
            return False
        runners = view.report.runners if view.report else ()
        return not any(r.key == model.runner_key and r.is_ready for r in runners)
