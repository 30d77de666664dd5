"""How calls and thinking look in a rendered chat: made-up ones are put through a template.

What surrounds them in the result is how the model was taught to write them. Knows nothing of
template languages: whoever calls brings the rendering.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from inference.messages import ChatMessage, ToolCall
from inference.output.known import BARE, SYNTAXES
from inference.output.syntax import (
    CallShape,
    CallSyntax,
    JsonCall,
    NamedCall,
    PythonCall,
    TaggedCall,
    token_names,
)

END_OF_TURN: Final = "zqxend"  # what the rendering puts where the model would end its turn
_NAMES: Final = ("zqxfirst", "zqxsecond")
_KEYS: Final = ("zqxka", "zqxkb")
_VALUES: Final = ("zqxva", "zqxvb")
_ANSWER: Final = "zqxanswer"
_ID: Final = "zqxcall0"  # of a call, with a digit behind it: nine characters
_AN_ID: Final = re.compile(_ID + r"\d")
_THOUGHT: Final = "zqxthought"
_MAX_MARKER: Final = 80  # characters; a longer one is no marker
_TAG_BEFORE: Final = re.compile(r"(<[^<>\s]+>|\[[A-Z_]+\])\s*\Z")
_NUMBER: Final = re.compile(r"\A:\d+")  # of a call, behind its name
_TAG_AFTER: Final = re.compile(r"\s*(</?[^<>\s]+>|\[/?[A-Z_]+\])")

LISTED_TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "zqxlisted",
        "description": "zqxabout",
        "parameters": {
            "type": "object",
            "properties": {"zqxparameter": {"type": "string", "description": "zqxmeaning"}},
            "required": ["zqxparameter"],
        },
    },
}

Rendering = Callable[[Sequence[ChatMessage]], str | None]  # None: the template refuses


def probe_thinking(render: Rendering) -> tuple[str, str] | None:
    """Return the tags around an answer's thinking, None if none are to be seen."""
    thought = ChatMessage(role="assistant", content=_ANSWER, thinking=_THOUGHT)
    text = render([_question(), thought]) or ""
    before, found, after = text.partition(_THOUGHT)
    opening, closing = _TAG_BEFORE.search(before), _TAG_AFTER.match(after)
    return (opening[1], closing[1]) if found and opening and closing else None


def probe_calls(render: Rendering) -> CallSyntax | None:
    """Return how calls look, None if the template does not show them or not clearly."""
    answer = ChatMessage(role="assistant", content=_ANSWER)
    plain = render([_question(), answer, _question()]) or ""
    end_tag = _TAG_AFTER.match(plain.partition(_ANSWER)[2])
    for count in (len(_NAMES), 1):
        text = render([_question(), _calling(_NAMES[:count])])
        if text is not None and _NAMES[0] in text:
            said = text[_begin_of_difference(text, plain) :].partition(END_OF_TURN)[0]
            said = said.partition(end_tag[1])[0] if end_tag else said
            return _recognized(_said(said, plain.partition(_ANSWER)[2]))
    return None


def _begin_of_difference(text: str, other: str) -> int:
    """Return where two texts begin to differ, or where the tag begins that differs."""
    end = _common_length(text, other)
    tag = text.rfind("<", 0, end)
    return tag if tag > text.rfind(">", 0, end) else end


def _question() -> ChatMessage:
    return ChatMessage(role="user", content="zqxquestion")


def _calling(names: Sequence[str]) -> ChatMessage:
    arguments = dict(zip(_KEYS, _VALUES, strict=True))
    calls = tuple(
        ToolCall(name=name, arguments=arguments, id=f"{_ID}{number}", index=number)
        for number, name in enumerate(names)
    )
    return ChatMessage(role="assistant", tool_calls=calls)


@dataclass(frozen=True, slots=True)
class _Said:
    """Rendered calls, cut at the made-up words.

    `gap` stands between the first call's last value and the second call's name, or behind the only
    call; `tail` behind the second call. `after_answer` is what follows an answer without calls.
    """

    before_name: str
    name_to_key: str
    key_to_value: str
    value_to_key: str
    gap: str
    tail: str
    after_answer: str


def _said(text: str, after_answer: str) -> _Said | None:
    """Return the pieces of the calls, None if not all words are there in their order."""
    pieces = []
    rest = text
    for word in (_NAMES[0], _KEYS[0], _VALUES[0], _KEYS[1], _VALUES[1]):
        piece, found, rest = rest.partition(word)
        if not found:
            return None
        pieces.append(piece)
    before_name, name_to_key, key_to_value, value_to_key, _ = pieces
    gap, _, second = rest.partition(_NAMES[1])
    tail = second.rpartition(_VALUES[1])[2]
    return _Said(before_name, name_to_key, key_to_value, value_to_key, gap, tail, after_answer)


def _recognized(said: _Said | None) -> CallSyntax | None:
    """Return a known syntax with the same beginning and shape, else one made of the pieces."""
    if said is None:
        return None
    start, brace, _ = said.before_name.partition("{")
    if brace and said.before_name.endswith('"'):
        return _of_json(said, start)
    if "{" in said.name_to_key:
        return _of_named(said)
    if said.name_to_key.startswith("("):
        marker = _bare(said.before_name)
        closers = _closers(said, marker)
        return _known(marker, PythonCall()) or _checked(
            CallSyntax((PythonCall(),), (marker,), closers)
        )
    return _of_tagged(said)


def _of_json(said: _Said, start: str) -> CallSyntax | None:
    marker = _bare(start)
    if not marker:
        return BARE
    shape = JsonCall()
    return _known(marker, shape) or _checked(
        CallSyntax((shape,), (marker,), _closers(said, marker))
    )


def _of_named(said: _Said) -> CallSyntax | None:
    """Return the syntax of a name followed by an object, with JSON's quotes or with others.

    What stands around an id is a separator, since the id is another in every call.
    """
    before_name, *between = _AN_ID.split(said.before_name)
    opening, section = _parted(before_name, _AN_ID.split(said.gap)[0])
    opening = opening.removesuffix("functions.")
    separator, _, key_start = said.name_to_key.partition("{")
    between += _AN_ID.split(_NUMBER.sub("", separator))
    separators = tuple(each.strip() for each in between if each.strip())
    quote = '"' if key_start.strip() else said.key_to_value.strip().removeprefix(":").strip()
    shape = NamedCall(opening, separators, quote or '"')
    return _known(before_name.strip().removesuffix("functions."), shape) or _checked(
        CallSyntax((shape,), (section,) if section else (), _closers(said, opening))
    )


def _of_tagged(said: _Said) -> CallSyntax | None:
    key_opening = _common_end(said.name_to_key, said.value_to_key).lstrip()
    value_end = said.value_to_key.removesuffix(key_opening).strip()
    behind = said.gap.lstrip().removeprefix(value_end)
    opening, section = _parted(said.before_name, behind)
    closing = _TAG_AFTER.match(behind)
    name_end = said.name_to_key.removesuffix(key_opening).strip()
    pieces = (opening, key_opening, said.key_to_value.strip(), value_end)
    if not all(pieces) or closing is None:
        return None
    shape = TaggedCall(opening, name_end, *pieces[1:], closing=closing[1])
    return _known(said.before_name.strip(), shape) or _checked(
        CallSyntax((shape,), (section,) if section else (), _closers(said, opening))
    )


def _known(marker: str, shape: CallShape) -> CallSyntax | None:
    """Return the known syntax whose openings make up this marker, or else end it.

    Its calls have to be of the given shape.
    """
    likely = [each for each in SYNTAXES if any(_is_alike(own, shape) for own in each.shapes)]
    for syntax in likely:
        rest = marker
        for opening in syntax.openings():
            rest = rest.replace(opening, "")
        if not rest.strip():
            return syntax
    return next((each for each in likely if any(map(marker.endswith, each.openings()))), None)


def _is_alike(first: CallShape, second: CallShape) -> bool:
    if isinstance(first, TaggedCall) and isinstance(second, TaggedCall):
        return first.key_opening == second.key_opening
    return type(first) is type(second)


def _checked(syntax: CallSyntax) -> CallSyntax | None:
    """Return the syntax unless what begins it is nothing, or too long to be a marker."""
    openings = syntax.openings()
    is_likely = bool(openings) and all(len(each) <= _MAX_MARKER for each in openings)
    return syntax if is_likely else None


def _bare(text: str) -> str:
    """Return the marker before a list or an object."""
    return text.strip().rstrip("[").rstrip()


def _parted(before: str, gap: str) -> tuple[str, str]:
    """Return what opens every call, and what comes once before the first."""
    opening = _common_end(before, gap).strip()
    if not opening:
        return before.strip(), ""
    return opening, before.strip().removesuffix(opening).strip()


def _common_end(first: str, second: str) -> str:
    """Return what two texts end with alike, without the rest of a tag that it begins with."""
    length = _common_length(first[::-1], second[::-1])
    shared = first[len(first) - length :]
    others = first[: len(first) - length], second[: len(second) - length]
    is_cut = any(other.rfind("<") > other.rfind(">") for other in others)
    return shared.partition(">")[2] if is_cut else shared


def _common_length(first: str, second: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _closers(said: _Said, opening: str) -> tuple[str, ...]:
    """Return the tags between and behind calls that neither open them nor end every turn."""
    names = token_names([said.gap.replace(opening, " "), said.tail.replace(opening, " ")])
    return tuple(sorted(name for name in names if name not in said.after_answer))
