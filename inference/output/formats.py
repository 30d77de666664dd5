"""Which output format a model has, found from its template or its manifest's parser name.

Knows nothing of how answers are read by it.
"""

import functools
from collections.abc import Sequence
from typing import Final

from inference.messages import ChatMessage, ChatPrompt
from inference.output.go_tags import call_tag
from inference.output.known import (
    BARE,
    GENERIC,
    HARMONY,
    THINKING_TAGS,
    by_parser_name,
    marked_by,
    spoken_of_in,
)
from inference.output.probing import END_OF_TURN, LISTED_TOOL, probe_calls, probe_thinking
from inference.output.syntax import CallSyntax, OutputFormat, output_format
from inference.prompting import jinja, ollama
from inference.prompting.errors import (
    TemplateError,
    TemplateLimitError,
    TemplateParseError,
    TemplateRunError,
)

__all__ = ["OutputFormat", "find_format"]

_CACHE_SIZE: Final = 32
_REFUSALS: Final = (TemplateParseError, TemplateRunError)
_HARMONY_MARKS: Final = ("<|start|>", "<|channel|>", "<|message|>")


@functools.lru_cache(maxsize=_CACHE_SIZE)
def find_format(template: str, *, is_jinja: bool, parser: str = "") -> OutputFormat:
    """Return how a model with this template writes thinking and calls.

    `parser` is the manifest's name of it and wins if it is known. Never raises: a template that
    cannot be read gives the generic format.
    """
    named = by_parser_name(parser)
    if named is not None:
        return named
    if all(mark in template for mark in _HARMONY_MARKS):
        return HARMONY
    try:
        return _probed(template, is_jinja=is_jinja) if template else GENERIC
    except TemplateLimitError:  # what takes too long once is not tried again
        return output_format(_tags_in(template), BARE)


def _probed(template: str, *, is_jinja: bool) -> OutputFormat:
    thinking = _jinja_thinking(template) if is_jinja else _go_thinking(template)
    calls = _jinja_calls(template) if is_jinja else _go_calls(template)
    return output_format(thinking or _tags_in(template), calls or BARE)


def _render_jinja(template: str, messages: Sequence[ChatMessage]) -> str | None:
    try:
        return jinja.render_chat(template, messages, tools=[LISTED_TOOL], eos_token=END_OF_TURN)
    except _REFUSALS:
        return None


def _render_go(template: str, messages: Sequence[ChatMessage]) -> str | None:
    prompt = ChatPrompt(messages=tuple(messages), template=template, tools=(LISTED_TOOL,))
    try:
        return ollama.render_chat(prompt)
    except _REFUSALS:
        return None


def _jinja_thinking(template: str) -> tuple[str, str] | None:
    return probe_thinking(functools.partial(_render_jinja, template))


def _jinja_calls(template: str) -> CallSyntax | None:
    """Return how calls look; a template may speak of them without writing any itself.

    What looks like bare JSON may be that only because the template writes no calls.
    """
    probed = probe_calls(functools.partial(_render_jinja, template))
    if probed is not None and probed is not BARE:
        return probed
    return spoken_of_in(template) or probed


def _go_thinking(template: str) -> tuple[str, str] | None:
    try:
        return ollama.thinking_tags(template)
    except TemplateError:
        return None


def _go_calls(template: str) -> CallSyntax | None:
    """Return how calls look; where they cannot be rendered clearly, Ollama's rule decides."""
    probed = probe_calls(functools.partial(_render_go, template))
    return probed or marked_by(call_tag(template))


def _tags_in(template: str) -> tuple[str, str] | None:
    """Return well-known thinking tags that a template speaks of."""
    return next((tags for tags in THINKING_TAGS if tags[1] in template), None)
