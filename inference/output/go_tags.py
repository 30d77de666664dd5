"""What stands before a tool call in a Go template, by Ollama's rule (templates 4.1).

Knows nothing of what the text means.
"""

from collections.abc import Iterator

from inference.prompting.errors import TemplateError
from inference.prompting.functions import FUNCTIONS
from inference.prompting.gotemplate import nodes, parse
from inference.prompting.gotemplate.builtins import BUILTINS

_CALLS = "ToolCalls"


def call_tag(source: str) -> str:
    """Return the first text inside the first condition on tool calls, without its JSON.

    Empty if there is none before the first action, or if the template cannot be read.
    """
    try:
        template = parse(source, frozenset(BUILTINS) | frozenset(FUNCTIONS))
    except TemplateError:
        return ""
    condition = next(_conditions(template.body), None)
    printed = () if condition is None else _printed(condition.body)
    first = next((each for each in printed if each is None or each.strip()), None)
    return (first or "").partition("{")[0].strip()


def _conditions(body: tuple[nodes.Node, ...]) -> Iterator[nodes.If]:
    """Yield the conditions on tool calls, in the order of the source."""
    for node in body:
        if isinstance(node, nodes.If) and _asks_for_calls(node.pipe):
            yield node
        if isinstance(node, nodes.If | nodes.With | nodes.Range):
            yield from _conditions(node.body)
            yield from _conditions(node.otherwise)


def _asks_for_calls(pipe: nodes.Pipe) -> bool:
    condition = nodes.If(pipe, (), ())
    return any(
        _CALLS in word.names
        for each in nodes.pipes((condition,))
        for command in each.commands
        for word in command.words
        if isinstance(word, nodes.Field | nodes.Variable)
    )


def _printed(body: tuple[nodes.Node, ...]) -> Iterator[str | None]:
    """Yield the texts in the order of the source, and None for every action among them."""
    for node in body:
        match node:
            case nodes.Text():
                yield node.text
            case nodes.Action():
                yield None
            case nodes.If() | nodes.With() | nodes.Range():
                yield from _printed(node.body)
                yield from _printed(node.otherwise)
