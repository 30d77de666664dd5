"""What a Go template's tree tells about the model: names used, where the answer stands, tags.

Knows nothing of rendering; the rules are Ollama's (templates 1.1, 1.2 and 4.3).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from inference.prompting.gotemplate import Template, nodes

_RESPONSE: Final = "Response"
_THINKING: Final = "Thinking"
_MESSAGES: Final = "Messages"
_APPENDED: Final = nodes.Action(nodes.Pipe(1, (nodes.Command((nodes.Field((_RESPONSE,)),)),)))


def field_names(template: Template) -> frozenset[str]:
    """Return the names of all fields used anywhere in a template, in lower case."""
    bodies = (template.body, *template.definitions.values())
    return frozenset(
        name.lower() for body in bodies for pipe in nodes.pipes(body) for name in _names(pipe)
    )


def with_response(template: Template) -> Template:
    """Return the template with the response at its end."""
    return replace(template, body=(*template.body, _APPENDED))


def opening(template: Template) -> Template:
    """Return the template cut off after the first action that mentions the response."""
    return replace(template, body=_cut(template.body)[0])


def thinking_tags(template: Template) -> tuple[str, str] | None:
    """Return the texts around `.Thinking` in the loop over messages, or None without both."""
    for body in _message_bodies(template.body, is_inside=False):
        if any(isinstance(node, nodes.Action) and _mentions(node, _THINKING) for node in body):
            first, last = body[0], body[-1]
            if isinstance(first, nodes.Text) and isinstance(last, nodes.Text):
                tags = first.text.strip(), last.text.strip()
                if all(tags):
                    return tags
    return None


def _names(pipe: nodes.Pipe) -> Iterator[str]:
    for command in pipe.commands:
        for word in command.words:
            if isinstance(word, nodes.Field | nodes.Variable):
                yield from word.names


def _mentions(node: nodes.Node, name: str) -> bool:
    return any(name in _names(pipe) for pipe in nodes.pipes((node,)))


def _cut(body: tuple[nodes.Node, ...]) -> tuple[tuple[nodes.Node, ...], bool]:
    """Return the nodes up to the response, and whether it is among them."""
    kept: list[nodes.Node] = []
    for node in body:
        is_found = False
        if isinstance(node, nodes.If | nodes.With | nodes.Range):
            inner, is_found = _cut(node.body)
            otherwise, is_last = ((), False) if is_found else _cut(node.otherwise)
            is_found = is_found or is_last
            kept.append(replace(node, body=inner, otherwise=otherwise))
        else:
            is_found = isinstance(node, nodes.Action) and _mentions(node, _RESPONSE)
            kept.append(node)
        if is_found:
            return tuple(kept), True
    return tuple(kept), False


def _message_bodies(
    body: tuple[nodes.Node, ...], *, is_inside: bool
) -> Iterator[tuple[nodes.Node, ...]]:
    """Yield every list of nodes whose innermost loop goes over the messages."""
    if is_inside:
        yield body
    for node in body:
        if isinstance(node, nodes.If | nodes.With | nodes.Range):
            is_loop = isinstance(node, nodes.Range)
            is_below = _MESSAGES in _names(node.pipe) if is_loop else is_inside
            yield from _message_bodies(node.body, is_inside=is_below)
            yield from _message_bodies(node.otherwise, is_inside=is_inside)
