"""Chats → text, by a Jinja template as models carry it in their GGUF file.

Messages get the shape that templates made for Hugging Face expect (templates 3.1). Templates
disagree on some points; what one refuses is tried again in another shape. Knows nothing of Go
templates or of where a template comes from.
"""

import datetime
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from inference.messages import ChatMessage
from inference.prompting.errors import TemplateDepthError, TemplateError, TemplateRunError
from inference.prompting.message_shapes import ASSISTANT, USER, Message, shapes
from inference.prompting.sandbox import render
from inference.prompting.tool_shapes import completed, functions_text, plain

_CACHE_SIZE: Final = 32
_PROBE: Final = "what is said"
_MAX_TRYING_S: Final = 1.0  # of the thread's time; a shape more is not tried behind that


def render_chat(
    template: str,
    messages: Sequence[ChatMessage],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    think: bool | str | None = None,
    bos_token: str = "",
    eos_token: str = "",
) -> str:
    """Return the text of a chat that the model has to continue.

    An answer that has begun, a last message of the assistant's without calls, is continued. Raises
    TemplateError: the first failure if no shape of the messages works.
    """
    asked, begun = _parted(messages)
    # Who has begun to answer has done with thinking.
    told = _thinking(False if begun and think else think)
    told |= {"add_generation_prompt": True, "bos_token": bos_token, "eos_token": eos_token}
    is_typed = _wants_parts(template)
    deadline = time.thread_time() + _MAX_TRYING_S
    failure: TemplateError | None = None
    for tool_variables in _tool_variables(tools):
        for shaped in shapes(asked):
            if failure is not None and time.thread_time() > deadline:
                raise failure
            if is_typed:
                _part(shaped)
            try:
                return render(template, {**tool_variables(), **told, "messages": shaped}) + begun
            except TemplateRunError as error:
                failure = failure or error
            except TemplateDepthError as error:  # the messages have no depth, but tools may
                failure = failure or error
                break
    raise failure or TemplateRunError("template could not be rendered")


def _tool_variables(
    tools: Sequence[Mapping[str, Any]],
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yield what makes the variables about tools: as they are, then with all that can be read.

    Made anew for every rendering, since a template may change them.
    """
    yield lambda: {"tools": [plain(tool) for tool in tools] or None}
    yield lambda: {
        "tools": completed(tools),
        "functions": functions_text(tools),
        "datetime": f"{datetime.datetime.now().astimezone():%Y-%m-%d}",
    }


def _thinking(think: bool | str | None) -> dict[str, Any]:  # noqa: FBT001 - a wire value
    """Return the names by which templates ask whether to think."""
    if think is None:
        return {}
    told: dict[str, Any] = {"enable_thinking": bool(think), "thinking": bool(think)}
    if isinstance(think, str):
        told["reasoning_effort"] = think
    return told


def _parted(messages: Sequence[ChatMessage]) -> tuple[Sequence[ChatMessage], str]:
    """Return the messages before an answer that has begun, and so much of the answer."""
    last = messages[-1] if len(messages) > 1 else None
    if last is None or last.role.lower() != ASSISTANT or last.tool_calls or last.thinking:
        return messages, ""
    return messages[:-1], last.content


def _part(messages: list[Message]) -> None:
    for message in messages:
        message["content"] = [{"type": "text", "text": message["content"]}]


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _wants_parts(template: str) -> bool:
    """Whether a template shows a content only where it is a list of parts."""
    messages = [{"role": USER, "content": _PROBE}]
    if _shows_probe(template, messages):
        return False
    _part(messages)
    return _shows_probe(template, messages)


def _shows_probe(template: str, messages: list[Message]) -> bool:
    variables = {
        "messages": messages,
        "add_generation_prompt": True,
        "bos_token": "",
        "tools": None,
    }
    try:
        return _PROBE in render(template, {**variables, "eos_token": ""})
    except TemplateError:
        return False
