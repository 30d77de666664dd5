"""How a model writes its thinking and its tool calls: plain descriptions, compared and cached.

Knows nothing of templates, which `formats` reads to make these, nor of how text is read by them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

# The names of control tokens as vocabularies have them: <|call|>, <think>, [TOOL_CALLS].
_TOKEN_NAME: Final = re.compile(r"</?[^<>\s=]+>|\[/?[A-Z][A-Z_]+\]")


@dataclass(frozen=True, slots=True)
class JsonCall:
    """A JSON object that holds the name and the arguments."""


@dataclass(frozen=True, slots=True)
class NamedCall:
    """A name, then a JSON object with the arguments.

    `separators` may stand between the two; what else stands there (an id) is ignored. With a
    `quote` it is not JSON: strings stand between two of these and keys are bare.
    """

    opening: str
    separators: tuple[str, ...] = ()
    quote: str = '"'


@dataclass(frozen=True, slots=True)
class TaggedCall:
    """A name and one tagged text for each argument; blanks between the pieces are free."""

    opening: str
    name_end: str  # empty: a blank or the next tag
    key_opening: str
    key_end: str
    value_end: str
    closing: str


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A call as Python writes it, with keyword arguments that are literals."""


CallShape: TypeAlias = JsonCall | NamedCall | TaggedCall | PythonCall


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How calls look.

    A run of calls begins with one of `markers` or with a shape's own opening, anywhere in the
    text; `closers` may stand between and behind the calls of a run. `is_bare`: a run may also
    begin with `{` or `[` as the first thing that is said.
    """

    shapes: tuple[CallShape, ...]
    markers: tuple[str, ...] = ()
    closers: tuple[str, ...] = ()
    is_bare: bool = False

    def openings(self) -> tuple[str, ...]:
        """Return every text that begins a run, the longest first."""
        own = (shape.opening for shape in self.shapes if isinstance(shape, NamedCall | TaggedCall))
        return tuple(sorted({*self.markers, *own} - {""}, key=lambda text: (-len(text), text)))

    def texts(self) -> tuple[str, ...]:
        """Return every fixed text of the syntax."""
        found = [*self.markers, *self.closers]
        for shape in self.shapes:
            match shape:
                case NamedCall():
                    found += [shape.opening, *shape.separators, shape.quote]
                case TaggedCall():
                    found += [shape.opening, shape.key_opening, shape.key_end]
                    found += [shape.value_end, shape.closing]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How a model's answers are divided.

    `thinking` are the tags around it; `shown_tokens` the control tokens that must stay visible in
    the text. `is_channelled`: gpt-oss' channels, which have to be parsed whatever was asked for,
    because they frame the content as well; `thinking` and `calls` then play no part.
    """

    thinking: tuple[str, str] | None
    calls: CallSyntax
    shown_tokens: frozenset[str]
    is_channelled: bool = False

    @property
    def tags_json(self) -> bool:
        """Whether a call may be a JSON object between tags."""
        is_json = any(isinstance(shape, JsonCall) for shape in self.calls.shapes)
        return is_json and bool(self.calls.markers) and not self.is_channelled


def token_names(texts: Iterable[str]) -> frozenset[str]:
    """Return the names of control tokens that occur in texts, the texts themselves included."""
    names = {text.strip() for text in texts}
    names |= {name for text in texts for name in _TOKEN_NAME.findall(text)}
    return frozenset(name for name in names if _TOKEN_NAME.fullmatch(name))


def output_format(thinking: tuple[str, str] | None, calls: CallSyntax) -> OutputFormat:
    """Return the format of these parts, with the tokens that it needs to see."""
    return OutputFormat(thinking, calls, token_names([*(thinking or ()), *calls.texts()]))
