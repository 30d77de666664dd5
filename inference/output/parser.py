"""The text of one answer → content, thinking and tool calls as they become certain.

Nothing that is said gets lost: what looked like a call and is none comes out as content. Knows
nothing of templates (see `formats`) nor of tokens.
"""

import itertools
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from inference.messages import ToolCall
from inference.output.calls import CallScanner, Found
from inference.output.harmony import ChannelReader
from inference.output.syntax import OutputFormat
from inference.output.thinking import ThinkingSplitter
from inference.output.tools import Call, Toolbox

_ID_LETTERS: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 8
# Of what is read at once: what comes behind it is looked at again whenever it is no call.
_MAX_PIECE: Final = 128


class Parsed(NamedTuple):
    """What became certain: thinking comes before content, content before calls."""

    content: str
    thinking: str
    calls: tuple[ToolCall, ...]


class OutputParser:
    """Divides one answer; push its text in any pieces, then flush once."""

    def __init__(
        self,
        form: OutputFormat,
        *,
        tools: Sequence[Mapping[str, Any]],
        splits_thinking: bool,
        prompt_end: str,
    ) -> None:
        """Divide by `form`; calls are looked for only if there are tools.

        `tools` are as in a request's JSON. `prompt_end` is the last text of the prompt; what the
        template opened there (a thinking tag) is open when the answer begins. Where thinking has
        a channel of its own it is told apart even without `splits_thinking`.
        """
        toolbox = Toolbox(tools)
        self._channels = ChannelReader(toolbox, prompt_end) if form.is_channelled else None
        self._splitter = ThinkingSplitter(form.thinking if splits_thinking else None, prompt_end)
        self._scanner = CallScanner(form.calls, toolbox) if toolbox else None
        self._splits_thinking = splits_thinking
        self._calls = 0

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next is thinking; a constraint on the content is off meanwhile."""
        part = self._channels or self._splitter
        return self._splits_thinking and part.is_thinking

    @property
    def reasons(self) -> bool | None:
        """Whether what was said last belongs to the thinking, tags included; None: not clear yet.

        Unlike `is_thinking` this knows a channel's header from what it leads to.
        """
        if self._channels is not None:
            return self._channels.reasons
        return None if self._splitter.is_undecided else self._splitter.is_thinking

    @property
    def is_undecided(self) -> bool:
        """Whether nothing was said yet that tells if there is thinking."""
        part = self._channels or self._splitter
        return self._splits_thinking and part.is_undecided

    @property
    def open_json(self) -> str:
        """What was said of a call as JSON between tags; empty: no such call is open."""
        return self._scanner.open_json if self._scanner is not None else ""

    def rules_out_thinking(self, text: str) -> bool:
        """Return whether this text, pushed next, would decide that there is no thinking.

        Changes nothing. False where that is decided already.
        """
        part = self._channels or self._splitter
        return self._splits_thinking and part.rules_out(text)

    def push(self, text: str) -> Parsed:
        """Add text and return what is now certain."""
        if len(text) <= _MAX_PIECE:
            return self._push(text)
        starts = range(0, len(text), _MAX_PIECE)
        parts = [self._push(text[start : start + _MAX_PIECE]) for start in starts]
        contents, thoughts, calls = zip(*parts, strict=True)
        return Parsed("".join(contents), "".join(thoughts), tuple(itertools.chain(*calls)))

    def _push(self, text: str) -> Parsed:
        if self._channels is not None:
            return self._parsed(*self._channels.push(text))
        split = self._splitter.push(text)
        if self._scanner is None or not split.rest:
            return Parsed(split.rest, split.thinking, ())
        found = self._scanner.push(split.rest)
        return self._parsed(split.thinking, found)

    def flush(self) -> Parsed:
        """Return the rest at the end of the answer.

        A call that was cut off counts if closing its JSON makes it whole, else it is content.
        """
        if self._channels is not None:
            return self._parsed(*self._channels.flush())
        split = self._splitter.flush()
        if self._scanner is None:
            return Parsed(split.rest, split.thinking, ())
        before = self._scanner.push(split.rest)
        after = self._scanner.flush()
        both = Found(before.content + after.content, [*before.calls, *after.calls])
        return self._parsed(split.thinking, both)

    def _parsed(self, thinking: str, found: Found) -> Parsed:
        calls = numbered(found.calls, first=self._calls)
        self._calls += len(calls)
        return Parsed(found.content, thinking, calls)


def numbered(calls: Sequence[Call], *, first: int) -> tuple[ToolCall, ...]:
    """Return calls with ids of their own, counted from `first`."""
    return tuple(
        ToolCall(name=name, arguments=arguments, id=_new_id(), index=index)
        for index, (name, arguments) in enumerate(calls, first)
    )


def _new_id() -> str:
    return "call_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
