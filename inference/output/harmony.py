"""gpt-oss' channels: analysis is thinking, final is content, commentary to a function is a call.

An answer is a row of messages, `<|start|>role to=… <|channel|>name<|message|>text<|end|>`; the
prompt has begun the first one. The format: https://cookbook.openai.com/articles/openai-harmony.
Knows nothing of other formats.
"""

import enum
import re
from typing import Final

from inference.output.calls import Found
from inference.output.json_scan import JsonScan
from inference.output.tails import begun_length
from inference.output.tools import Call, Toolbox

_START: Final = "<|start|>"
_CHANNEL: Final = "<|channel|>"
_MESSAGE: Final = "<|message|>"
_CONSTRAIN: Final = "<|constrain|>"
_ENDS: Final = ("<|end|>", "<|call|>", "<|return|>")
_MARKS: Final = (*_ENDS, _START, _CHANNEL)
_HEADS: Final = (_START, _CHANNEL, _MESSAGE, _CONSTRAIN, "to=")
_MARK: Final = re.compile("|".join(map(re.escape, _MARKS)))
_RECIPIENT: Final = re.compile(r"to=(?:functions?\.)?([^\s<]+)")
_NAME: Final = re.compile(re.escape(_CHANNEL) + r"\s*(\w+)")
_MAX_HEADER: Final = 512  # characters

TOKENS: Final = frozenset({*_MARKS, _MESSAGE, _CONSTRAIN})


class _Part(enum.Enum):
    """What the text at hand is."""

    HEADER = enum.auto()
    THINKING = enum.auto()
    CONTENT = enum.auto()
    CALL = enum.auto()


class ChannelReader:
    """Divides the text of one answer as it grows."""

    def __init__(self, tools: Toolbox, prompt_end: str) -> None:
        """Begin where the prompt ends, which may be inside a message."""
        self._tools = tools
        self._held = ""
        self._part = _Part.HEADER
        self._has_begun = False  # it is known whether the answer has channels
        self._recipient = ""
        self._raw = ""  # of a call, what the model said before its arguments
        self._searched = 0
        self._thinking: list[str] = []
        self._content: list[str] = []
        self._calls: list[Call] = []
        start = prompt_end.rfind(_START)
        self._header = prompt_end[start:] if start >= 0 else ""
        if _MESSAGE in self._header:
            self._begin_message(self._header)
        self._has_begun = _CHANNEL in self._header

    @property
    def is_undecided(self) -> bool:
        """Whether nothing was said yet that tells if the answer has channels."""
        return not self._has_begun

    @property
    def is_thinking(self) -> bool:
        """Whether something else than content comes next."""
        return self._has_begun and self._part is not _Part.CONTENT

    @property
    def reasons(self) -> bool | None:
        """Whether the message at hand is thinking; None in a header, which may lead to either."""
        return None if self._part is _Part.HEADER else self._part is _Part.THINKING

    def rules_out(self, text: str) -> bool:
        """Return whether this text, said next, would mean that there are no channels."""
        return not (self._has_begun or _may_be_header(self._held + text))

    def push(self, text: str) -> tuple[str, Found]:
        """Add text and return the thinking and what else is now certain."""
        self._held += text
        if text.isspace() and self._part is _Part.HEADER:
            return "", Found("", [])
        while self._step():
            pass
        return self._take()

    def flush(self) -> tuple[str, Found]:
        """Return what was held back, at the end of the answer."""
        held, self._held = self._held, ""
        if self._part is _Part.CALL:
            self._end_call(held, "")
        elif self._part is _Part.THINKING:
            self._thinking.append(held)
        elif not held.strip().startswith(_MARKS):  # what begins a header is nobody's text
            self._content.append(held)
        return self._take()

    def _take(self) -> tuple[str, Found]:
        thinking, content = "".join(self._thinking), "".join(self._content)
        found = Found(content, self._calls)
        self._thinking, self._content, self._calls = [], [], []
        return thinking, found

    def _step(self) -> bool:
        """Go on to the next mark; return whether there was one."""
        if self._part is _Part.HEADER:
            return self._read_header()
        found = _MARK.search(self._held, self._searched)
        end = found.start() if found else len(self._held) - begun_length(self._held, _MARKS)
        if self._part is _Part.CALL:
            self._searched = end
        else:
            said = self._thinking if self._part is _Part.THINKING else self._content
            said.append(self._held[:end])
            self._held = self._held[end:]
        if found is None:
            return False
        self._end_message(found.group())
        return True

    def _read_header(self) -> bool:
        if not self._held.strip():
            return False
        if _may_be_header(self._held):
            self._has_begun = self._has_begun or self._held.lstrip().startswith(_HEADS)
            end = self._held.find(_MESSAGE, 0, _MAX_HEADER)
            if end >= 0:
                end += len(_MESSAGE)
                self._raw, self._held = self._held[:end], self._held[end:]
                self._begin_message(self._header + self._raw)
                return True
            if len(self._held) < _MAX_HEADER:
                return False
            self._content.append(self._held[:_MAX_HEADER])
            self._held = self._held[_MAX_HEADER:]
        self._has_begun = True
        self._part = _Part.CONTENT
        return True

    def _begin_message(self, header: str) -> None:
        recipient, name = _RECIPIENT.search(header), _NAME.search(header)
        self._header = ""
        self._searched = 0
        if recipient:
            self._recipient = recipient[1]
            self._part = _Part.CALL
        elif name and name[1] == "analysis":
            self._part = _Part.THINKING
        else:
            self._part = _Part.CONTENT

    def _end_message(self, mark: str) -> None:
        end = self._searched if self._part is _Part.CALL else 0
        body = self._held[:end]
        self._held = self._held[end + len(mark) * (mark in _ENDS) :]
        if self._part is _Part.CALL:
            self._end_call(body, mark if mark in _ENDS else "")
        self._part = _Part.HEADER
        self._searched = 0

    def _end_call(self, body: str, mark: str) -> None:
        """Take a call's arguments, closed if they were cut off; no call is content, as it stands.

        A call nobody can answer (an unknown function) is content too.
        """
        call = self._tools.named_call(self._recipient, body)
        call = call or self._repaired(body)
        if call is None:
            self._content.append(self._raw + body + mark)
        else:
            self._calls.append(call)

    def _repaired(self, body: str) -> Call | None:
        start = body.find("{")
        if start < 0:
            return None
        scan = JsonScan(start)
        scan.advance(body)
        if scan.is_done:
            return None
        return self._tools.named_call(self._recipient, scan.closed(body[start:]))


def _may_be_header(text: str) -> bool:
    """Return whether a text begins a header or is too short to tell."""
    said = text.lstrip()
    return said.startswith(_HEADS) or any(head.startswith(said) for head in _HEADS)
