"""Values → text as Go's fmt package prints them: print, println and printf.

Format: https://pkg.go.dev/fmt. Pointers, complex numbers and the binary forms of floats are left
out: a template cannot make them. Knows nothing of templates.
"""

import re
from typing import Final

from inference.prompting.gotemplate.values import MISSING, Stringer, Value
from inference.prompting.gotemplate.verbs import BAD_NUMBER, MAX_WIDTH, Spec, describe, show
from inference.prompting.limits import Budget

_PLAIN: Final = Spec("v")
_PART: Final = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width_at>\[[^\]]*\])?(?P<width>\*|[0-9]+)?"
    r"(?:(?P<dot>\.)(?P<precision_at>\[[^\]]*\])?(?P<precision>\*|[0-9]+)?)?"
    r"(?P<value_at>\[[^\]]*\])?(?P<verb>.|\Z)",
    re.DOTALL,
)
_DIGITS_LIMIT: Final = 7


def to_text(value: Value, budget: Budget) -> str:
    """Return what `{{ value }}` prints."""
    if isinstance(value, str):
        return value
    if value is None or value is MISSING:
        return "<no value>"
    return show(value, _PLAIN, budget)


def sprint(values: list[Value], budget: Budget) -> str:
    """Return the values one after the other, a blank between two that are both no strings."""
    pieces: list[str] = []
    was_string = True
    for value in values:
        is_string = isinstance(value, str) and not isinstance(value, Stringer)
        if not (is_string or was_string):
            pieces.append(" ")
        pieces.append(show(value, _PLAIN, budget))
        was_string = is_string
    return "".join(pieces)


def sprintln(values: list[Value], budget: Budget) -> str:
    """Return the values with blanks between them and a line's end."""
    return " ".join(show(value, _PLAIN, budget) for value in values) + "\n"


def sprintf(template: str, values: list[Value], budget: Budget) -> str:
    """Return the format with its verbs replaced; mistakes show up in the text, as in Go."""
    return _Formatter(values, budget).run(template)


class _Formatter:
    """One use of sprintf: the values and how many are used up."""

    def __init__(self, values: list[Value], budget: Budget) -> None:
        self._values = values
        self._budget = budget
        self._at = 0
        self._is_reordered = False
        self._is_index_good = True

    def run(self, template: str) -> str:
        """Go through the format once."""
        pieces: list[str] = []
        done = size = 0
        for part in _PART.finditer(template):
            pieces.append(template[done : part.start()])
            pieces.append(self._part(part))
            done = part.end()
            size += len(pieces[-1])
            self._budget.spend()
            self._budget.build(size)
        pieces.append(template[done:])
        if not self._is_reordered and self._at < len(self._values):
            extra = ", ".join(describe(value, self._budget) for value in self._values[self._at :])
            pieces.append(f"%!(EXTRA {extra})")
        return "".join(pieces)

    def _part(self, part: re.Match[str]) -> str:
        """Return the text of one `%…`."""
        verb = part["verb"]
        self._is_reordered, self._is_index_good = False, True
        self._move_to(part["width_at"])
        width, complaint = self._number(part["width"], "%!(BADWIDTH)")
        self._move_to(part["precision_at"])
        precision, second = self._number(part["precision"], "%!(BADPREC)")
        complaint += second
        self._move_to(part["value_at"])
        if part["dot"] and precision is None and not second:
            precision = 0
        if precision is not None and precision < 0:
            precision, complaint = None, complaint + "%!(BADPREC)"
        flags = part["flags"]
        if width is not None and width < 0:
            width, flags = -width, flags + "-"
        if not verb:
            return complaint + "%!(NOVERB)"
        if verb == "%":
            return complaint + "%"
        if not self._is_index_good:
            return f"{complaint}%!{verb}(BADINDEX)"
        if self._at >= len(self._values):
            return f"{complaint}%!{verb}(MISSING)"
        value = self._take()
        return complaint + show(value, Spec(verb, flags, width, precision), self._budget)

    def _take(self) -> Value:
        self._at += 1
        return self._values[self._at - 1]

    def _number(self, text: str | None, complaint: str) -> tuple[int | None, str]:
        """Return a width or precision, and what to print if it is not usable."""
        if text is None:
            return None, ""
        number: Value = None
        if text != "*":
            number = int(text) if len(text) <= _DIGITS_LIMIT else BAD_NUMBER
        elif self._at < len(self._values):
            number = self._take()
        if type(number) is not int:
            return None, complaint
        return (number, "") if abs(number) <= MAX_WIDTH else (None, complaint)

    def _move_to(self, index: str | None) -> None:
        """Obey an explicit argument index, `[n]`."""
        if index is None:
            return
        self._is_reordered = True
        digits = index[1:-1]
        if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_LIMIT:
            position = int(digits) - 1
            if 0 <= position < len(self._values):
                self._at = position
                return
        self._is_index_good = False
