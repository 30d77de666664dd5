"""A request's prompt → tokens: render, tokenize, and cut what does not fit (contract 6.3, 6.4).

Runs in the runner, because cutting needs the tokenizer and a template is hostile input. Knows no
sockets and no batch.
"""

import bisect
from typing import Final

from inference.engine.llama import Model
from inference.messages import ChatMessage, ChatPrompt, FailureCode, Generate, RawPrompt
from inference.prompting.errors import TemplateError
from inference.prompting.ollama import render_chat

# More text than could ever fit is refused before it is tokenized: the loop serves others too.
_MOST_CHARACTERS_PER_TOKEN: Final = 64
_ALWAYS_ALLOWED_CHARACTERS: Final = 1_000_000
TOO_LONG: Final = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)


class PromptError(Exception):
    """The prompt cannot be computed."""

    def __init__(self, code: FailureCode, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


def prompt_tokens(model: Model, request: Generate) -> list[int]:
    """Return the tokens of a request's prompt, at least one and fewer than the window.

    Raises PromptError.
    """
    limit = min(request.runner.num_ctx, model.window_tokens)
    try:
        tokens = _rendered_tokens(model, request, limit)
    except TemplateError as error:
        raise PromptError(FailureCode.TEMPLATE_FAILED, str(error)) from error
    except ValueError as error:
        raise PromptError(FailureCode.BAD_REQUEST, str(error)) from error
    if request.truncate and len(tokens) > limit - 1:
        keep = kept_tokens(request.sampling.num_keep, limit, adds_bos=model.adds_bos())
        tokens = cut(tokens, limit, keep)
    if len(tokens) >= model.window_tokens:
        raise PromptError(FailureCode.PROMPT_TOO_LONG, TOO_LONG)
    if not tokens:
        raise PromptError(FailureCode.BAD_REQUEST, "the rendered prompt is empty")
    return tokens


def kept_tokens(num_keep: int, limit: int, *, adds_bos: bool) -> int:
    """Return how many tokens at the front are never cut; a negative `num_keep` keeps all."""
    return limit - 1 if num_keep < 0 else min(num_keep + adds_bos, limit - 1)


def cut(tokens: list[int], limit: int, keep: int) -> list[int]:
    """Return the first `keep` tokens and the last ones, about half the window in all."""
    total = limit - max((limit - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (total - keep) :]


def _rendered_tokens(model: Model, request: Generate, limit: int) -> list[int]:
    prompt = request.prompt
    if isinstance(prompt, RawPrompt):
        return _tokenize(model, prompt.text)
    before = model.detokenize(prompt.context) if prompt.context else ""
    tokens = _tokenize(model, before + render_chat(prompt))
    if len(tokens) <= limit or not request.truncate:
        return tokens
    return _without_oldest(model, prompt, before, limit)


def _without_oldest(model: Model, prompt: ChatPrompt, before: str, limit: int) -> list[int]:
    """Return the tokens of as many of the last messages as fit; system messages always stay."""

    def tokens_from(start: int) -> list[int]:
        return _tokenize(model, before + render_chat(_from(prompt, start)))

    # Fewer messages never need more tokens, so the first start that fits is found by halving.
    starts = range(1, len(prompt.messages))
    first = bisect.bisect_left(starts, True, key=lambda start: len(tokens_from(start)) <= limit)  # noqa: FBT003
    return tokens_from(starts[first] if first < len(starts) else len(prompt.messages) - 1)


def _from(prompt: ChatPrompt, start: int) -> ChatPrompt:
    def is_kept(index: int, message: ChatMessage) -> bool:
        return index >= start or message.role == "system"

    kept = (m for i, m in enumerate(prompt.messages) if is_kept(i, m))
    return ChatPrompt(
        messages=tuple(kept),
        template=prompt.template,
        tools=prompt.tools,
        think=prompt.think,
        context=prompt.context,
    )


def _tokenize(model: Model, text: str) -> list[int]:
    most = max(_ALWAYS_ALLOWED_CHARACTERS, model.window_tokens * _MOST_CHARACTERS_PER_TOKEN)
    if len(text) > most:
        raise PromptError(FailureCode.PROMPT_TOO_LONG, TOO_LONG)
    return model.tokenize(text)
