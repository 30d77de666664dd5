"""Which of a model's templates is used: the Go template of its manifest or its GGUF's Jinja one.

Looks at what the templates mention, as Ollama does (templates 1.5), and renders nothing. Knows no
requests; a template that a request brings along is used before any of these.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

_JINJA_KEY: Final = "tokenizer.chat_template"
_JINJA_TOOLS_KEY: Final = f"{_JINJA_KEY}.tool_use"
_CACHED_TEMPLATES: Final = 256

# None of these goes back: templates are hostile. A literal without an end is one all the same.
_GO_LITERAL: Final = re.compile(r'"(?:[^"\\\n]|\\.)*+"?|`[^`]*+`?')
_GO_ROLE: Final = re.compile(r"[\w.$]*\.Role")
_JINJA_LITERAL: Final = re.compile(r"'(?:[^'\\]|\\.)*+'?|\"(?:[^\"\\]|\\.)*+\"?", re.DOTALL)
_JINJA_THINKING: Final = re.compile(
    r"\b(?:enable_thinking|thinking|thinking_budget|reasoning_effort|reasoning|reasoning_content)\b"
)
_THINKING_TAG: Final = re.compile(r"</?(?:\w+:)?think(?:ing)?>|\[/?THINK\]|<\|/?think(?:ing)?\|>")
_JINJA_TOOL_ROLE: Final = re.compile(r"""(['"])(?:tool|tool_response|ipython)\1""")


class Traits(NamedTuple):
    """What a template shows the model. `has_round_trip`: tools' calls and their results."""

    has_tools: bool = False
    has_thinking: bool = False
    has_suffix: bool = False
    has_round_trip: bool = False


@dataclass(frozen=True, slots=True)
class ChosenTemplate:
    """A template's text, empty where the model has none, and its language."""

    text: str
    is_jinja: bool
    traits: Traits


def choose_template(
    go_template: str, metadata: Mapping[str, Any], *, renderer: str = "", has_tools: bool = False
) -> ChosenTemplate:
    """Return the template for a model's chats.

    `metadata` is the GGUF's, `renderer` the name of what Ollama would use in place of a template:
    those models' own Jinja template says the same. `has_tools`: the request has, and gets the
    variant for them where there is one.
    """
    jinja, with_tools = _text(metadata, _JINJA_KEY), _text(metadata, _JINJA_TOOLS_KEY)
    go, other = go_traits(go_template), _of_both(jinja, with_tools)
    is_jinja = bool(jinja) and (not go_template or bool(renderer) or is_better(jinja=other, go=go))
    if not is_jinja:
        return ChosenTemplate(go_template, is_jinja=False, traits=go)
    text = with_tools if with_tools and has_tools else jinja
    return ChosenTemplate(text, is_jinja=True, traits=other)


def is_better(*, jinja: Traits, go: Traits) -> bool:
    """Whether a Jinja template is taken although there is a Go template.

    Where it shows more; but not at the price of tools' calls and results.
    """
    lacks = (go.has_tools and not jinja.has_tools) or (go.has_thinking and not jinja.has_thinking)
    if lacks:
        return False
    if (jinja.has_tools, jinja.has_thinking) != (go.has_tools, go.has_thinking):
        return jinja.has_round_trip or not go.has_round_trip
    return go.has_tools and jinja.has_round_trip and not go.has_round_trip


@lru_cache(maxsize=_CACHED_TEMPLATES)
def go_traits(template: str) -> Traits:
    """Return what a Go template's actions mention."""
    actions = [action.strip("- \t\n") for action in _inside(template, "{{", "}}")]
    actions = [action for action in actions if not action.startswith("/*")]
    names = _GO_LITERAL.sub('""', "\n".join(actions))

    def uses(variable: str) -> bool:
        return re.search(rf"\.{variable}\b", names) is not None

    return Traits(
        has_tools=uses("Tools"),
        has_thinking=uses("Thinking"),
        has_suffix=uses("Suffix"),
        has_round_trip=uses("ToolCalls")
        and (uses("ToolName") or any(map(_shows_tool_role, actions))),
    )


@lru_cache(maxsize=_CACHED_TEMPLATES)
def jinja_traits(template: str) -> Traits:
    """Return what a Jinja template mentions."""
    source = _without_comments(template)
    code = "\n".join((*_inside(source, "{%", "%}"), *_inside(source, "{{", "}}")))
    # Names stand outside of literals, or in them where a message is asked for a member.
    names = _JINJA_LITERAL.sub('""', code)
    thinks = _JINJA_THINKING.search(names) or _THINKING_TAG.search(source)
    return Traits(
        has_tools=re.search(r"\btools\b", names) is not None,
        has_thinking=thinks is not None or "reasoning_content" in code,
        has_round_trip="tool_calls" in code and _JINJA_TOOL_ROLE.search(code) is not None,
    )


def _inside(source: str, opening: str, closing: str) -> Iterator[str]:
    """Yield what stands between the marks, as far as they are closed."""
    end = 0
    while (start := source.find(opening, end)) >= 0:
        end = source.find(closing, start + len(opening))
        if end < 0:
            return
        yield source[start + len(opening) : end]


def _without_comments(source: str) -> str:
    parts = source.split("{#")
    behind = (part.partition("#}") for part in parts[1:])
    return "".join([parts[0], *(text for _, _, text in behind)])


def _shows_tool_role(action: str) -> bool:
    return '"tool"' in action or "`tool`" in action or _GO_ROLE.fullmatch(action) is not None


def _of_both(jinja: str, with_tools: str) -> Traits:
    found, variant = jinja_traits(jinja), jinja_traits(with_tools)
    return Traits(*(one or other for one, other in zip(found, variant, strict=True)))


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""
