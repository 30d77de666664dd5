"""Callers' texts may not name control tokens: what names one is kept out of the template's sight.

Before a template runs, every name of a control token in a text of the caller's gives way to a
stand-in, a character that no text has; in the rendered prompt the stand-ins show what has to stay
text. A template may cut, compare or encode the texts as it likes. Knows no tokens.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import structs

from inference.messages import ChatMessage, ChatPrompt, ToolCall
from inference.prompting.control_names import ControlNames
from inference.prompting.errors import TemplateLimitError

# Rare characters, but printable ones: a list that a template prints escapes all others.
_FIRST: Final = 0x20000
_LAST: Final = 0x2A6DF
_WORD: Final = re.compile(r"[\w.-]*")
_MAX_DEPTH: Final = 100
KNOWN_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered prompt; the caller's may not become control tokens."""

    text: str
    is_callers: bool


class StandIns:
    """The characters that stand for texts in one chat, and what they stand for."""

    def __init__(self, prompt: ChatPrompt) -> None:
        """Take the chat in which they are to stand."""
        self._prompt = prompt
        self._unused: Iterator[str] | None = None
        self._by_text: dict[str, str] = {}

    def stand_for(self, text: str) -> str:
        """Return the character that stands for a text. Raises TemplateLimitError."""
        known = self._by_text.get(text)
        if known is None:
            if self._unused is None:
                self._unused = _unused_characters(self._prompt)
            known = next(self._unused, None)
            if known is None:
                raise TemplateLimitError("messages name too many control tokens")
            self._by_text[text] = known
        return known

    def segments(self, rendered: str) -> list[Segment]:
        """Return the pieces of a rendered text, in order, with what was stood for."""
        if not self._by_text:
            return [Segment(rendered, is_callers=False)] if rendered else []
        texts = {stand_in: text for text, stand_in in self._by_text.items()}
        parts = re.split(f"([{''.join(texts)}])", rendered)
        return [Segment(texts.get(part, part), part in texts) for part in parts if part]


def disarmed(prompt: ChatPrompt, names: ControlNames) -> tuple[ChatPrompt, StandIns]:
    """Return a chat in which the caller names no control tokens, and what stands for the names.

    The caller's are all texts but those of messages from the manifest. A role that is none of
    the known ones and could be part of a name, as in `<|role|>`, gives way as a whole. Raises
    TemplateLimitError.
    """
    stand_ins = StandIns(prompt)
    disarming = _Disarming(names, stand_ins)
    changed = structs.replace(
        prompt,
        messages=tuple(map(disarming.message, prompt.messages)),
        tools=tuple(disarming.value(tool) for tool in prompt.tools),
    )
    return changed, stand_ins


class _Disarming:
    def __init__(self, names: ControlNames, stand_ins: StandIns) -> None:
        self._names = names
        self._stand_ins = stand_ins

    def message(self, message: ChatMessage) -> ChatMessage:
        if message.is_models_own:
            return message
        return structs.replace(
            message,
            role=self._role(message.role),
            content=self._text(message.content),
            thinking=self._text(message.thinking),
            tool_calls=tuple(map(self._call, message.tool_calls)),
            tool_name=self._text(message.tool_name),
            tool_call_id=self._text(message.tool_call_id),
        )

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of decoded JSON; names of members are texts too."""
        if depth > _MAX_DEPTH:
            return None
        match value:
            case str():
                return self._text(value)
            case Mapping():
                return {
                    self._text(name): self.value(each, depth + 1) for name, each in value.items()
                }
            case list() | tuple():
                return [self.value(each, depth + 1) for each in value]
        return value

    def _call(self, call: ToolCall) -> ToolCall:
        return structs.replace(
            call,
            id=self._text(call.id),
            name=self._text(call.name),
            arguments=self.value(call.arguments),
        )

    def _role(self, role: str) -> str:
        is_harmless = _WORD.fullmatch(role) and not self._names.are_made_of(role.lower())
        if is_harmless or role.lower() in KNOWN_ROLES:
            return role
        return self._stand_ins.stand_for(role)

    def _text(self, text: str) -> str:
        spans = self._names.spans(text)
        if not spans:
            return text
        parts: list[str] = []
        done = 0
        for start, end in spans:
            parts += (text[done:start], self._stand_ins.stand_for(text[start:end]))
            done = end
        return "".join([*parts, text[done:]])


def _unused_characters(prompt: ChatPrompt) -> Iterator[str]:
    """Yield characters that a chat does not hold, pictures aside."""
    shown = tuple(structs.replace(message, images=()) for message in prompt.messages)
    used = set(msgspec.json.encode(structs.replace(prompt, messages=shown)).decode())
    return (chr(code) for code in range(_FIRST, _LAST + 1) if chr(code) not in used)
