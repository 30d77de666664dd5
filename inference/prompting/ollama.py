"""Chat prompts and fill-in prompts → text, by a Go template and Ollama's rules about it.

The rules are those of contract 6.1, 6.2 and 6.6 and of templates 1.1 to 1.3. Unlike Ollama, the
last turn of a template without messages can use every function and definition. Knows nothing of
tokens, of what fits into a context, or of Jinja.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from inference.messages import ChatMessage, ChatPrompt
from inference.prompting import analysis
from inference.prompting.functions import FUNCTIONS
from inference.prompting.gotemplate import Budget, Template, execute, parse
from inference.prompting.gotemplate.builtins import BUILTINS
from inference.prompting.gotemplate.values import Value
from inference.prompting.shapes import tools_value, turn_value
from inference.prompting.turns import PARAGRAPH, Turn, merge

DEFAULT_TEMPLATE: Final = "{{ .Prompt }}"
_CACHE_SIZE: Final = 32
_NAMES: Final = frozenset(BUILTINS) | frozenset(FUNCTIONS)
_ANSWERED: Final = frozenset({"messages", "response"})
_LEVEL_OF_TRUE: Final = "medium"


def render_chat(prompt: ChatPrompt) -> str:
    """Return the text of a chat that the model has to continue.

    Raises TemplateError if the template cannot be read, fails on these messages or takes too much
    work. A prompt without a template gets DEFAULT_TEMPLATE.
    """
    compiled = _compile(prompt.template or DEFAULT_TEMPLATE)
    turns = merge(prompt.messages)
    thinking = _thinking(prompt.think)
    if "messages" not in compiled.variables:
        return _render_turns(compiled, turns, thinking)
    systems = [text for turn in turns if turn.role == "system" for text in turn.contents]
    values = {
        "System": PARAGRAPH.join(systems),
        "Messages": [turn_value(turn) for turn in turns],
        "Tools": tools_value(prompt.tools),
        "Response": "",
    }
    return execute(compiled.whole, {**values, **thinking}, FUNCTIONS, Budget())


def render_fill(template: str, prompt: str, suffix: str) -> str:
    """Return the text that makes a model write what belongs between prompt and suffix.

    Raises TemplateError as render_chat does. With one of them empty it is one user's turn.
    """
    if not (prompt and suffix):
        message = ChatMessage(role="user", content=prompt)
        return render_chat(ChatPrompt(messages=(message,), template=template))
    values = {"Prompt": prompt, "Suffix": suffix, "Response": "", **_thinking(None)}
    whole = _compile(template or DEFAULT_TEMPLATE).whole
    return execute(whole, values, FUNCTIONS, Budget())


def variables(template: str) -> frozenset[str]:
    """Return the names of all fields a template uses, in lower case.

    `suffix` among them means that the model can fill in, `tools` that it can call tools. Raises
    TemplateError if the template cannot be read, so it is also the check of a new one.
    """
    return _compile(template or DEFAULT_TEMPLATE).variables


def thinking_tags(template: str) -> tuple[str, str] | None:
    """Return the tags around a model's thinking, None if its template shows none.

    A template with tags means that the model can think. Raises TemplateError as variables does.
    """
    return _compile(template or DEFAULT_TEMPLATE).thinking_tags


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A parsed template.

    `opening` is what the last turn is rendered with: the part up to and including the response.
    """

    whole: Template
    opening: Template
    variables: frozenset[str]
    thinking_tags: tuple[str, str] | None


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _compile(source: str) -> _Compiled:
    template = parse(source, _NAMES)
    names = analysis.field_names(template)
    whole = template if names & _ANSWERED else analysis.with_response(template)
    return _Compiled(
        whole=whole,
        opening=whole if "messages" in names else analysis.opening(whole),
        variables=names,
        thinking_tags=analysis.thinking_tags(template),
    )


def _thinking(think: bool | str | None) -> dict[str, Value]:  # noqa: FBT001 - a wire value
    """Return the three values about thinking; a level is also a yes."""
    level = think if isinstance(think, str) else _LEVEL_OF_TRUE if think else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


def _render_turns(compiled: _Compiled, turns: Sequence[Turn], thinking: Mapping[str, Value]) -> str:
    """Render a template that knows one question and one answer, once for every such pair.

    The last pair ends where the answer begins or, if it has begun, so far.
    """
    budget = Budget()
    texts: list[str] = []
    values = {"System": "", "Prompt": "", "Response": ""}

    def render(template: Template) -> None:
        texts.append(execute(template, {**values, **thinking}, FUNCTIONS, budget))
        values.update(dict.fromkeys(values, ""))

    for turn in turns:
        if turn.role == "system":
            if values["Prompt"] or values["Response"]:
                render(compiled.whole)
            values["System"] = turn.content
        elif turn.role == "user":
            if values["Response"]:
                render(compiled.whole)
            values["Prompt"] = turn.content
        elif turn.role == "assistant":
            values["Response"] = turn.content
    render(compiled.opening)
    return "".join(texts)
