"""Which word stands for a model in figures that many may read.

Figures have a series for each word, so there may not be any number of them; and the name of a
model in somebody's namespace tells their name. So shared models have their own name, as many as
fit, and all others together are `OTHER`. Pure.
"""

from typing import Final

OTHER: Final = "other"
MOST_LABELS: Final = 32


class ModelLabels:
    """The words of one process; who comes first is named."""

    def __init__(self, most: int = MOST_LABELS) -> None:
        self._most = most
        self._named: set[str] = set()

    def label(self, name: str) -> str:
        """Return the word for a model's display form, as `models_app.names` makes it."""
        if name in self._named:
            return name
        # The display form of a shared model has neither host nor namespace.
        if "/" in name or len(self._named) >= self._most:
            return OTHER
        self._named.add(name)
        return name
