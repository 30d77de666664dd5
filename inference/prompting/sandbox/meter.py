"""What one rendering of a Jinja template may still use, and how heavy values are.

A weight is about the number of characters a value prints as; because every container that comes
into being is weighed, printing, comparing and hashing one always ends soon. Knows nothing of
syntax trees.
"""

import contextlib
import contextvars
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Final

from inference.prompting.errors import TemplateLimitError
from inference.prompting.limits import MAX_TEXT, Budget

# The steps bound the work; this is for what a slow machine, or the collector of garbage in between,
# makes of them: a long chat must not be refused because of either.
_MAX_CPU_S: Final = 2.0
_CLOCK_EVERY: Final = 32
_ITEM: Final = 16
_BITS_PER_CHARACTER: Final = 3
_CHARACTERS_PER_STEP: Final = 512
_ITEMS_PER_STEP: Final = 64
_MAX_DEPTH: Final = 100
_LAYERS: Final = 4


class Meter:
    """The budget of one rendering. Every method raises TemplateLimitError when it is used up."""

    def __init__(self) -> None:
        self._budget = Budget(output=_LAYERS * MAX_TEXT)
        self._deadline = time.thread_time() + _MAX_CPU_S
        self._until_clock = _CLOCK_EVERY
        self._weights: dict[int, tuple[object, int]] = {}
        self._given: dict[int, tuple[object, int]] = {}

    def tick(self, steps: int = 1) -> None:
        """Pay for work of about a microsecond a step."""
        self._budget.spend(steps)
        self._until_clock -= steps
        if self._until_clock < 0:
            self._until_clock = _CLOCK_EVERY
            if time.thread_time() > self._deadline:
                raise TemplateLimitError("template takes too long")

    def weigh(self, value: object, depth: int = 0) -> int:
        """Return a value's weight; the weights of containers are kept until `forget`."""
        if isinstance(value, str):
            return len(value)
        if isinstance(value, int):
            return _ITEM + value.bit_length() // _BITS_PER_CHARACTER
        if not isinstance(value, list | tuple | dict):
            return _ITEM
        known = self._weights.get(id(value)) or self._given.get(id(value))
        if known is not None:
            return known[1]
        if depth > _MAX_DEPTH:
            raise TemplateLimitError("value is nested too deeply")
        self.tick(1 + len(value) // _ITEM)
        parts: Iterable[object] = value
        if isinstance(value, dict):
            parts = [*value.keys(), *value.values()]
        total = _ITEM
        for part in parts:
            total += _ITEM + self.weigh(part, depth + 1)
            check_weight(total)
        self._weights[id(value)] = (value, total)
        return total

    def note(self, value: object, weight: int) -> None:
        """Remember the weight of a container just made, which spares going through it."""
        if isinstance(value, list | tuple):
            self._weights[id(value)] = (value, weight)

    def give(self, value: object) -> None:
        """Weigh what the template is rendered with, which hardly any template changes."""
        self.weigh(value)
        self._given, self._weights = self._weights, {}

    def forget(self, changed: object) -> None:
        """Forget the weights of all that may hold a container that has changed."""
        self._weights.clear()
        if id(changed) in self._given:
            self._given.clear()

    def charge(self, value: object) -> None:
        """Pay for one level of a value that has been made or is read; refuse it if too heavy."""
        check_weight(self.weigh(value))
        size = 0
        if isinstance(value, str):
            size = len(value) // _CHARACTERS_PER_STEP
        elif isinstance(value, list | tuple | dict):
            size = len(value) // _ITEMS_PER_STEP
        self.tick(1 + size)

    def charge_all(self, value: object) -> None:
        """Pay for all levels of a value, as comparing or printing it goes through them."""
        weight = self.weigh(value)
        check_weight(weight)
        self.tick(1 + weight // _CHARACTERS_PER_STEP)

    def iterate(self, items: Iterable[object]) -> Iterable[object]:
        """Return the items; each of them is paid for, at once where their number is known."""
        if isinstance(items, Sized):
            self.tick(1 + len(items))
            return items
        return self._each(iter(items))

    def _each(self, items: Iterator[object]) -> Iterator[object]:
        for item in items:
            self.tick()
            yield item

    def write(self, characters: int) -> None:
        """Pay for a piece of text put out, be it into a variable."""
        self.tick()
        self._budget.write(characters)


def check_weight(weight: int) -> None:
    """Raise TemplateLimitError if something of this weight must not come into being."""
    if weight > MAX_TEXT:
        raise TemplateLimitError("template makes a value that is too large")


_current: contextvars.ContextVar[Meter] = contextvars.ContextVar("_current")


def current() -> Meter:
    """Return the meter of the rendering under way."""
    return _current.get()


@contextlib.contextmanager
def metered() -> Iterator[Meter]:
    """Give the code in the block, which may belong to a template, a meter of its own."""
    meter = Meter()
    token = _current.set(meter)
    try:
        yield meter
    finally:
        _current.reset(token)
