"""A request's prompt → tokens: render, tokenize, see, and cut what does not fit (contract 6).

Runs in the runner, because cutting needs the tokenizer and a template is hostile input; on a thread
of its own, because both take time. Knows no sockets and no batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.engine.answer import output_format
from inference.engine.history import estimated, estimated_chat, shown_chat
from inference.engine.model import (
    MIN_WINDOW_TOKENS,
    Constraint,
    EncodedImage,
    Model,
    UnusableInput,
)
from inference.engine.pieces import Pieces, TextTooLong, checked, tokenized, with_bos
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    FailureCode,
    FillPrompt,
    Generate,
    RawPrompt,
    TokensPrompt,
)
from inference.output.call_schema import calls_schema, strict_schema
from inference.output.formats import OutputFormat
from inference.prompting.errors import TemplateError
from inference.prompting.marking import Segment, disarmed
from inference.prompting.ollama import render_fill, variables

_KEPT_CHARACTERS: Final = 64  # of the end of a prompt's text
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
    """A request that can be computed; one constraint for each of its choices, or none.

    `text_end`: the last characters of the prompt as text, empty where it has none. Where the
    request only asks for the text, that is all there is: `rendered` and `image_count`, and
    `counted_tokens` where they were to be counted.
    """

    request: Generate
    prompt: Prompt
    constraints: tuple[Constraint, ...] = ()
    text_end: str = ""
    rendered: str = ""
    image_count: int = 0
    counted_tokens: int = 0
    strict: Constraint | None = None  # of a call in a free answer, at its start
    output_format: OutputFormat | None = None  # None: the answer is all text


def prepare(model: Model, request: Generate) -> Prepared:
    """Return a request with its prompt's tokens. Raises PromptError."""
    try:
        return _prepared(model, request)
    except TemplateError as error:
        raise PromptError(FailureCode.TEMPLATE_FAILED, str(error)) from error
    except TextTooLong as error:
        if request.renders_only and request.counts_tokens:
            return Prepared(request, Prompt([]), counted_tokens=_estimate(model, request))
        raise PromptError(FailureCode.PROMPT_TOO_LONG, TOO_LONG) from error
    except (UnusableInput, ValueError) as error:
        raise PromptError(FailureCode.BAD_REQUEST, str(error)) from error


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


@dataclass(frozen=True, slots=True)
class _Source:
    """A prompt before it is seen and cut."""

    pieces: Pieces
    images: Sequence[bytes] = ()
    own: int = 0


def _prepared(model: Model, request: Generate) -> Prepared:
    limit = min(request.runner.num_ctx, model.window_tokens)
    source = _source(model, request, limit)
    if request.renders_only:
        text = _whole_text(model, request, source)
        count = _count(model, request, source) if request.counts_tokens else 0
        images = len(source.images)
        return Prepared(
            request, Prompt([]), rendered=text, image_count=images, counted_tokens=count
        )
    prompt = _prompt(model, request, source, limit)
    form = output_format(request)
    constraints = _constraints(model, request)
    return Prepared(
        request,
        prompt,
        constraints,
        text_end=source.pieces.text[-_KEPT_CHARACTERS:],
        strict=None if constraints else _strict(model, request, form),
        output_format=form,
    )


def _constraints(model: Model, request: Generate) -> tuple[Constraint, ...]:
    """Return what each choice is kept to; forced tools go before a schema."""
    if not request.forced_tools:
        schema = request.json_schema
        return tuple(model.constraint(schema) for _ in range(request.choices if schema else 0))
    tools = request.prompt.tools if isinstance(request.prompt, ChatPrompt) else ()
    schema = calls_schema(tools, request.forced_tools, request.most_calls)
    return tuple(_calls_constraint(model, schema) for _ in range(request.choices))


def _strict(model: Model, request: Generate, form: OutputFormat | None) -> Constraint | None:
    """Return what a call in a free answer is kept to, where the model writes calls as JSON."""
    if form is None or not form.tags_json or not isinstance(request.prompt, ChatPrompt):
        return None
    schema = strict_schema(request.prompt.tools)
    return _calls_constraint(model, schema) if schema else None


def _calls_constraint(model: Model, schema: str) -> Constraint:
    try:
        return model.constraint(schema)
    except UnusableInput as error:
        raise UnusableInput(f"the tools' parameters cannot be kept to: {error}") from error


def _count(model: Model, request: Generate, source: _Source) -> int:
    """Return how many tokens the whole prompt has, nothing being cut."""
    pieces = source.pieces
    count = pieces.counted(model.vision, source.images, cache_group(request))
    ends_in_image = bool(source.images) and not pieces.runs[-1]
    return count + (len(_behind_image(model)) if ends_in_image else 0)


def _estimate(model: Model, request: Generate) -> int:
    """Return about how many tokens a prompt has that is too long to be tokenized."""
    match request.prompt:
        case ChatPrompt() as chat:
            return estimated_chat(model, chat)
        case FillPrompt(prefix=prefix, suffix=suffix):
            return estimated(prefix + suffix)
        case RawPrompt(text=text):
            return estimated(text)
        case TokensPrompt(tokens=tokens):
            return len(tokens)


def _whole_text(model: Model, request: Generate, source: _Source) -> str:
    match request.prompt:
        case TokensPrompt(tokens=tokens):
            return model.detokenize(tokens)
        case ChatPrompt(context=context):
            return model.detokenize(context) + source.pieces.text
    return source.pieces.text


def _prompt(model: Model, request: Generate, source: _Source, limit: int) -> Prompt:
    """Return a prompt of at least one token and fewer than the window."""
    prompt = _joined(model, source, cache_group(request))
    tokens = prompt.tokens
    if request.truncate and not prompt.images and len(tokens) > limit - 1:
        if not request.shift:
            raise PromptError(FailureCode.PROMPT_TOO_LONG, TOO_LONG)
        keep = kept_tokens(request.sampling.num_keep, limit, adds_bos=model.adds_bos())
        prompt = Prompt(cut(tokens, limit, keep), own=min(prompt.own, keep))
    # A larger window that earlier requests have left lets no more through than one's own would.
    window = min(max(limit, MIN_WINDOW_TOKENS), model.window_tokens)
    if len(prompt.tokens) >= window:
        raise PromptError(FailureCode.PROMPT_TOO_LONG, TOO_LONG)
    if not prompt.tokens:
        raise PromptError(FailureCode.BAD_REQUEST, "the rendered prompt is empty")
    if request.scores_prompt and prompt.images:
        message = "a prompt with images has no log probabilities"
        raise PromptError(FailureCode.BAD_REQUEST, message)
    return prompt


def _joined(model: Model, source: _Source, scope: str) -> Prompt:
    tokens, images = source.pieces.joined(model.vision, source.images, scope)
    if tokens and tokens[-1] < 0:
        tokens += _behind_image(model)
    return Prompt(tokens, own=source.own, images=images)


def _behind_image(model: Model) -> list[int]:
    """Return what stands behind an image at the end: logits come from a token, it has none."""
    return model.tokenize_part("\n", parse_special=False)


def _source(model: Model, request: Generate, limit: int) -> _Source:
    match request.prompt:
        case TokensPrompt(tokens=tokens):
            if not all(map(model.has_token, tokens)):
                raise ValueError("a token id is outside the vocabulary")
            return _Source(Pieces([list(tokens)]))
        case FillPrompt() as fill:
            return _Source(_fill_pieces(model, fill))
        case RawPrompt(text=text, images=images):
            segments = [Segment(text, is_callers=False)]
            return _Source(tokenized(model, segments, len(images), is_first=True), images)
        case ChatPrompt() as chat:
            # Contract 6.3: behind a template of the caller's own nothing is dropped.
            may_drop = request.truncate and chat.is_models_template
            shown = shown_chat(model, chat, limit, may_drop=may_drop)
            return _Source(shown.pieces, shown.images, shown.own)


def _fill_pieces(model: Model, fill: FillPrompt) -> Pieces:
    if "suffix" in variables(fill.template):
        return _templated_fill(model, fill)
    marks = model.fill_tokens()
    if marks is None:
        raise UnusableInput("the model does not support insert")
    before, behind, middle = marks
    prefix = model.tokenize_part(checked(model, fill.prefix), parse_special=False)
    suffix = model.tokenize_part(checked(model, fill.suffix), parse_special=False)
    tokens = with_bos(model, [before, *prefix, behind, *suffix, middle])
    return Pieces([tokens], text=model.detokenize(tokens))


def _templated_fill(model: Model, fill: FillPrompt) -> Pieces:
    around = tuple(ChatMessage(role="user", content=text) for text in (fill.prefix, fill.suffix))
    chat = ChatPrompt(messages=around, template=fill.template)
    safe, stand_ins = disarmed(chat, model.control_names())
    text = render_fill(fill.template, *(message.content for message in safe.messages))
    return tokenized(model, stand_ins.segments(text), 0, is_first=True)
