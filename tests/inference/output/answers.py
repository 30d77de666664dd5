"""Answers pushed through a parser in pieces, and the tools that they call."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from inference.output.parser import OutputParser
from inference.output.syntax import OutputFormat


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool(
    "get_weather",
    city={"type": "string"},
    days={"type": "integer"},
    exact={"type": "boolean"},
    share={"type": ["number", "null"]},
    where={"type": "object"},
    hours={"anyOf": [{"type": "array"}, {"type": "string"}]},
)
TOOLS = (WEATHER, tool("add", a={"type": "number"}, b={"type": "number"}), tool("say_hello"))


class Answer(NamedTuple):
    content: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


def parse(
    form: OutputFormat,
    pieces: Iterable[str],
    *,
    tools: Sequence[dict[str, Any]] = TOOLS,
    splits_thinking: bool = True,
    prompt_end: str = "",
) -> Answer:
    parser = OutputParser(form, tools=tools, splits_thinking=splits_thinking, prompt_end=prompt_end)
    parts = [parser.push(piece) for piece in pieces]
    parts.append(parser.flush())
    calls = [call for part in parts for call in part.calls]
    assert [call.index for call in calls] == list(range(len(calls)))
    return Answer(
        content="".join(part.content for part in parts),
        thinking="".join(part.thinking for part in parts),
        calls=tuple((call.name, call.arguments) for call in calls),
    )


def parse_all_ways(form: OutputFormat, text: str, **how: Any) -> Answer:
    """Return the answer, which has to be the same wherever the text is cut once or everywhere."""
    whole = parse(form, [text], **how)
    assert parse(form, text, **how) == whole
    for length in (2, 3, 5):
        starts = range(0, len(text), length)
        assert parse(form, [text[at : at + length] for at in starts], **how) == whole
    for at in range(1, len(text)):
        assert parse(form, [text[:at], text[at:]], **how) == whole, text[:at]
    return whole


def cut(text: str, places: Iterable[int]) -> list[str]:
    """Return the pieces of a text between places, which may come in any order."""
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(ends)]
