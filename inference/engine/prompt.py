"""A request's prompt → tokens: render, tokenize, see, and cut what does not fit (contract 6).

Runs in the runner, because cutting needs the tokenizer and a template is hostile input; on a thread
of its own, because both take time. Knows no sockets and no batch.
"""

import bisect
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from inference.engine.model import Constraint, EncodedImage, Model, UnusableInput
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    FailureCode,
    FillPrompt,
    Generate,
    RawPrompt,
    TokensPrompt,
)
from inference.prompting.errors import TemplateError
from inference.prompting.marking import Segment, render_segments
from inference.prompting.ollama import render_fill, variables

# More text than could ever fit is refused before it is tokenized.
_MOST_CHARACTERS_PER_TOKEN: Final = 64
_ALWAYS_ALLOWED_CHARACTERS: Final = 1_000_000
_COUNTED_TOKENS_PER_IMAGE: Final = 768  # contract 6.3
_ROLES: Final = ("system", "user", "assistant", "tool")
_IMAGE_TAG: Final = re.compile(r"\[img-(\d+)\]")
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


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be computed before the first token of an answer.

    `tokens`: token ids; the places of an image hold its negative id. The first `own` come from the
    model's manifest. `images`: by the index of their first place.
    """

    tokens: list[int]
    own: int = 0
    images: dict[int, EncodedImage] = field(default_factory=dict)

    def position(self, index: int) -> int:
        """Return the position in its sequence of what stands at an index."""
        saved = (i.length - i.positions for at, i in self.images.items() if at + i.length <= index)
        return index - sum(saved)

    def whole_images(self, length: int) -> int:
        """Return `length`, or less where it would end inside an image."""
        for at, image in self.images.items():
            if at < length < at + image.length:
                return at
        return length


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be computed; one constraint for each of its choices, or none."""

    request: Generate
    prompt: Prompt
    constraints: tuple[Constraint, ...] = ()


def prepare(model: Model, request: Generate) -> Prepared:
    """Return a request with its prompt's tokens. Raises PromptError."""
    try:
        prompt = _prompt(model, request)
        schemas = [request.json_schema] * (request.choices if request.json_schema else 0)
        constraints = tuple(model.constraint(schema) for schema in schemas)
    except TemplateError as error:
        raise PromptError(FailureCode.TEMPLATE_FAILED, str(error)) from error
    except (UnusableInput, ValueError) as error:
        raise PromptError(FailureCode.BAD_REQUEST, str(error)) from error
    return Prepared(request, prompt, constraints)


def cache_group(request: Generate) -> str:
    """Return who may use again what is computed for a request."""
    return request.cache_group or f"user {request.user}"


def kept_tokens(num_keep: int, limit: int, *, adds_bos: bool) -> int:
    """Return how many tokens at the front are never cut; a negative `num_keep` keeps all."""
    return limit - 1 if num_keep < 0 else min(num_keep + adds_bos, limit - 1)


def cut(tokens: list[int], limit: int, keep: int) -> list[int]:
    """Return the first `keep` tokens and the last ones, about half the window in all."""
    total = limit - max((limit - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (total - keep) :]


def _prompt(model: Model, request: Generate) -> Prompt:
    """Return a prompt of at least one token and fewer than the window."""
    limit = min(request.runner.num_ctx, model.window_tokens)
    prompt = _whole_prompt(model, request, limit)
    tokens = prompt.tokens
    if request.truncate and not prompt.images and len(tokens) > limit - 1:
        if not request.shift:
            raise PromptError(FailureCode.PROMPT_TOO_LONG, TOO_LONG)
        keep = kept_tokens(request.sampling.num_keep, limit, adds_bos=model.adds_bos())
        prompt = Prompt(cut(tokens, limit, keep), own=min(prompt.own, keep))
    if len(prompt.tokens) >= model.window_tokens:
        raise PromptError(FailureCode.PROMPT_TOO_LONG, TOO_LONG)
    if not prompt.tokens:
        raise PromptError(FailureCode.BAD_REQUEST, "the rendered prompt is empty")
    if request.scores_prompt and prompt.images:
        message = "a prompt with images has no log probabilities"
        raise PromptError(FailureCode.BAD_REQUEST, message)
    return prompt


def _whole_prompt(model: Model, request: Generate, limit: int) -> Prompt:
    match request.prompt:
        case TokensPrompt(tokens=tokens):
            if not all(map(model.has_token, tokens)):
                raise ValueError("a token id is outside the vocabulary")
            return Prompt(list(tokens))
        case FillPrompt() as fill:
            return _fill_prompt(model, fill)
        case RawPrompt(text=text, images=images):
            segments = [Segment(text, is_callers=False)]
            pieces = _tokenized(model, segments, len(images), is_first=True)
            return _joined(model, pieces, images, cache_group(request))
        case ChatPrompt() as chat:
            pieces, messages = _chat_pieces(model, chat, limit, may_drop=request.truncate)
            shown = [image for message in messages for image in message.images]
            return _joined(model, pieces, shown, cache_group(request))


def _fill_prompt(model: Model, fill: FillPrompt) -> Prompt:
    if "suffix" in variables(fill.template):
        text = render_fill(fill.template, fill.prefix, fill.suffix)
        return Prompt(model.tokenize(_checked(model, text)))
    marks = model.fill_tokens()
    if marks is None:
        raise UnusableInput("the model does not support insert")
    before, behind, middle = marks
    prefix = model.tokenize_part(_checked(model, fill.prefix), parse_special=False)
    suffix = model.tokenize_part(_checked(model, fill.suffix), parse_special=False)
    return Prompt(_with_bos(model, [before, *prefix, behind, *suffix, middle]))


def _chat_pieces(
    model: Model, chat: ChatPrompt, limit: int, *, may_drop: bool
) -> tuple["_Pieces", Sequence[ChatMessage]]:
    """Return a chat's tokens without its images, and the messages that are left (contract 6.3)."""
    if not all(map(model.has_token, chat.context)):
        raise ValueError("a token id is outside the vocabulary")
    pieces = _rendered(model, chat)
    if not may_drop or _counted(model, pieces, chat) <= limit:
        return pieces, chat.messages

    def fits(start: int) -> bool:
        kept = _from(chat, start)
        return _counted(model, _rendered(model, kept), kept) <= limit

    # Fewer messages never need more tokens, so the first start that fits is found by halving.
    starts = range(1, len(chat.messages))
    first = bisect.bisect_left(starts, True, key=fits)  # noqa: FBT003
    start = starts[first] if first < len(starts) else len(chat.messages) - 1
    kept = _from(chat, start)
    return _rendered(model, kept), kept.messages


def _counted(model: Model, prompt: "_Pieces", chat: ChatPrompt) -> int:
    """Return the tokens that count when old messages are dropped (contract 6.3)."""
    seen = _image_count(chat) * _COUNTED_TOKENS_PER_IMAGE if model.vision is not None else 0
    return len(prompt.tokens_without_images()) + seen


def _from(chat: ChatPrompt, start: int) -> ChatPrompt:
    """Return the chat without the messages before `start`; system messages always stay."""
    kept = (m for i, m in enumerate(chat.messages) if i >= start or m.role == "system")
    return structs.replace(chat, messages=tuple(kept))


@dataclass(slots=True)
class _Pieces:
    """Runs of tokens with images between them: the first text, the first image, a text, …."""

    texts: list[list[int]]
    images: list[int]  # number of the image behind each text but the last
    own: int

    def tokens_without_images(self) -> list[int]:
        return [token for text in self.texts for token in text]


def _rendered(model: Model, chat: ChatPrompt) -> _Pieces:
    """Return a chat's tokens. Those of an earlier answer stand in front as they are.

    As text they would be tokenized otherwise, and what was text would become control tokens.
    """
    segments, is_known = render_segments(chat)
    own = 0
    pieces = _tokenized(model, segments, _image_count(chat), is_first=not chat.context)
    if chat.context:
        pieces.texts[0] = _with_bos(model, [*chat.context, *pieces.texts[0]])
    elif is_known and chat.is_models_template and not chat.tools and _is_only_text(chat):
        own_text = "".join(_leading_own(segments))
        own_tokens = model.tokenize(own_text) if own_text else []
        own = _agreeing(own_tokens, pieces.texts[0])
    return _Pieces(pieces.texts, pieces.images, own)


def _is_only_text(chat: ChatPrompt) -> bool:
    """Whether the template shows nothing of the caller's but texts, which are marked."""
    return not any(
        message.tool_calls
        or message.tool_name
        or message.tool_call_id
        or message.role not in _ROLES
        for message in chat.messages
        if not message.is_models_own
    )


def _leading_own(segments: Sequence[Segment]) -> list[str]:
    texts = []
    for segment in segments:
        if segment.is_callers:
            break
        texts.append(segment.text)
    return texts


def _agreeing(first: Sequence[int], second: Sequence[int]) -> int:
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))


def _image_count(chat: ChatPrompt) -> int:
    return sum(len(message.images) for message in chat.messages)


def _tokenized(
    model: Model, segments: Sequence[Segment], image_count: int, *, is_first: bool
) -> _Pieces:
    """Tokenize segments; where the caller's text names control tokens, it stays text.

    `is_first`: nothing stands in front of them.
    """
    texts: list[list[Segment]] = [[]]
    images: list[int] = []
    for segment in segments:
        parts = _IMAGE_TAG.split(segment.text) if image_count else [segment.text]
        texts[-1].append(Segment(parts[0], segment.is_callers))
        for number, text in zip(parts[1::2], parts[2::2], strict=True):
            if int(number) < image_count:
                images.append(int(number))
                texts.append([Segment(text, segment.is_callers)])
            else:
                texts[-1].append(Segment(f"[img-{number}]{text}", segment.is_callers))
    runs = [_run(model, run, is_first=is_first and not at) for at, run in enumerate(texts)]
    return _Pieces(runs, images, own=0)


def _run(model: Model, segments: Sequence[Segment], *, is_first: bool) -> list[int]:
    whole = _checked(model, "".join(segment.text for segment in segments))
    # Two texts of the caller side by side could make up a name together.
    grouped = itertools.groupby(segments, key=lambda segment: segment.is_callers)
    parts = [(is_callers, "".join(s.text for s in group)) for is_callers, group in grouped]
    if not any(is_callers and model.names_control(text) for is_callers, text in parts):
        if is_first:
            return model.tokenize(whole)
        return model.tokenize_part(whole, parse_special=True)
    tokens: list[int] = []
    for is_callers, text in parts:
        tokens += model.tokenize_part(text, parse_special=not is_callers)
    return _with_bos(model, tokens) if is_first else tokens


def _with_bos(model: Model, tokens: list[int]) -> list[int]:
    """Return tokens with the BOS in front that the model may want, unless it is there."""
    bos = model.tokenize("")[:1] if model.adds_bos() else []
    return tokens if tokens[:1] == bos else bos + tokens


def _joined(model: Model, pieces: _Pieces, images: Sequence[bytes], scope: str) -> Prompt:
    if images and model.vision is None:
        raise UnusableInput("this model is missing data required for image input")
    tokens = list(pieces.texts[0])
    placed: dict[int, EncodedImage] = {}
    for number, text in zip(pieces.images, pieces.texts[1:], strict=True):
        assert model.vision is not None  # noqa: S101 - images were refused above
        image = placed[len(tokens)] = model.vision.encode(images[number], scope=scope)
        tokens += [*([image.token] * image.length), *text]
    if tokens and tokens[-1] < 0:
        # Logits come from a token; an image has none.
        tokens += model.tokenize_part("\n", parse_special=False)
    return Prompt(tokens, own=pieces.own, images=placed)


def _checked(model: Model, text: str) -> str:
    most = max(_ALWAYS_ALLOWED_CHARACTERS, model.window_tokens * _MOST_CHARACTERS_PER_TOKEN)
    if len(text) > most:
        raise PromptError(FailureCode.PROMPT_TOO_LONG, TOO_LONG)
    return text
