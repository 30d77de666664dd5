"""How much work one rendering may do; neither Go nor Jinja has such limits of its own.

Knows nothing of what is counted, only of how much is left.
"""

from typing import Final

from inference.prompting.errors import TemplateLimitError

MAX_SOURCE_BYTES: Final = 256 * 1024
MAX_TOKENS: Final = 50_000
MAX_NESTING: Final = 200
MAX_TEMPLATE_DEPTH: Final = 50
MAX_STEPS: Final = 200_000
MAX_TEXT: Final = 4 * 1024 * 1024
_BUILT_PER_STEP: Final = 256
_READ_PER_STEP: Final = 1024


class Budget:
    """What is left for one rendering; the parts of a rendering share one object.

    A step is roughly a microsecond. Every method raises TemplateLimitError when it is used up.
    """

    __slots__ = ("_output", "_steps")

    def __init__(self, steps: int = MAX_STEPS, output: int = MAX_TEXT) -> None:
        self._steps = steps
        self._output = output

    def spend(self, steps: int = 1) -> None:
        """Pay for a number of steps."""
        self._steps -= steps
        if self._steps < 0:
            raise TemplateLimitError("template takes too many steps")

    def read(self, characters: int) -> None:
        """Pay for going over a text, as comparing or measuring it does."""
        self.spend(characters // _READ_PER_STEP)

    def build(self, characters: int) -> None:
        """Pay for making a text, before it is made where its size is known."""
        if characters > MAX_TEXT:
            raise TemplateLimitError("template makes a text that is too long")
        self.spend(characters // _BUILT_PER_STEP)

    def write(self, characters: int) -> None:
        """Pay for a piece of the result."""
        self._output -= characters
        if self._output < 0:
            raise TemplateLimitError("template's result is too long")
