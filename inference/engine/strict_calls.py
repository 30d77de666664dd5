"""Calls that a model writes of its own accord, kept to the schemas of strict tools.

While the model is inside a call that is a JSON object, a grammar holds; before and behind it the
model is free. Knows no formats: the parser says how much of a call there is.
"""

from inference.engine.model import Constraint


class StrictCalls:
    """The calls of one answer. Tell it, after every token, of the call that is being written."""

    def __init__(self, pristine: Constraint) -> None:
        """`pristine` allows one call and stays at its start."""
        self._pristine = pristine
        self._is_given_up = False
        self._held: Constraint | None = None

    @property
    def active(self) -> Constraint | None:
        """What holds for the next token, if anything does."""
        held = self._held
        return None if held is None or held.is_complete else held

    def follow(self, begun: str) -> None:
        """Take what has been written of a call; empty: the model is in none.

        A call that has begun in a way the grammar does not know is left to the model.
        """
        if not begun:
            self._held, self._is_given_up = None, False
        elif self._held is None and not self._is_given_up:
            constraint = self._pristine.fresh()
            if constraint.accept_text(begun):
                self._held = constraint
            else:
                self._is_given_up = True
