"""The text of an answer that is nothing but calls as JSON (see `call_schema`) → those calls.

Knows nothing of thinking, of templates and of how the model would have written a call.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from inference.messages import ToolCall
from inference.output.calls import CallScanner
from inference.output.known import BARE
from inference.output.parser import numbered
from inference.output.tools import Toolbox


class ForcedCalls:
    """The calls of one answer as they become complete."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        """`tools` are as in a request's JSON."""
        self._scanner = CallScanner(BARE, Toolbox(tools))
        self._has_begun = False
        self._count = 0

    def push(self, text: str) -> tuple[ToolCall, ...]:
        """Add text and return the calls that it completes; one that is never whole is none."""
        if not self._has_begun:
            text = text[text.find("{") :] if "{" in text else ""
            self._has_begun = bool(text)
        if not text:
            return ()
        calls = numbered(self._scanner.push(text).calls, first=self._count)
        self._count += len(calls)
        return calls
