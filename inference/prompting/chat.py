"""Chats → text, by whichever kind of template the model has, and what of it is the model's own.

The one entry for those who render. Knows nothing of tokens or of what fits into a context.
"""

import bisect
import itertools
from typing import Final

from msgspec import structs

from inference.messages import ChatMessage, ChatPrompt
from inference.prompting import jinja, ollama
from inference.prompting.control_names import BoundaryTexts
from inference.prompting.errors import TemplateError
from inference.prompting.marking import KNOWN_ROLES

_ANYTHING: Final = "\U0010ffff"
NO_BOUNDARIES: Final = BoundaryTexts()


def render_chat(prompt: ChatPrompt, boundaries: BoundaryTexts = NO_BOUNDARIES) -> str:
    """Return the text of a chat that the model has to continue. Raises TemplateError."""
    if not prompt.is_jinja:
        return ollama.render_chat(prompt)
    return jinja.render_chat(
        prompt.template,
        prompt.messages,
        tools=prompt.tools,
        think=prompt.think,
        bos_token=boundaries.begin,
        eos_token=boundaries.end,
    )


def own_text(prompt: ChatPrompt, rendered: str, boundaries: BoundaryTexts) -> str:
    """Return the front of a rendered chat that does not depend on what the caller said.

    It is what another rendering shares with it, one that was not told what the caller said: so
    it gives nothing away, whatever a template does with the texts.
    """
    own = tuple(itertools.takewhile(lambda message: message.is_models_own, prompt.messages))
    firsts = prompt.messages[len(own) : len(own) + 1]
    if not firsts and not prompt.tools:
        return rendered
    hollow = structs.replace(prompt, messages=(*own, *map(_hollow, firsts)), tools=(), context=())
    try:
        other = render_chat(hollow, boundaries)
    except TemplateError:
        return ""
    return rendered[: _agreeing(rendered, other)]


def _hollow(message: ChatMessage) -> ChatMessage:
    role = message.role if message.role.lower() in KNOWN_ROLES else _ANYTHING
    return ChatMessage(role=role, content=_ANYTHING)


def _agreeing(first: str, second: str) -> int:
    lengths = range(1, min(len(first), len(second)) + 1)
    return bisect.bisect_left(lengths, True, key=lambda n: first[:n] != second[:n])  # noqa: FBT003
