"""What a call costs: reserved before it is submitted to the engine, settled when it has ended.

One request, however many messages the engine gets for it, and the tokens that its prompts and
answers will certainly be about: a text has a token in four bytes or so, and an answer as many as
were asked for. What the engine tells that it is beyond that is reserved as it goes on. Loading,
unloading and rendering cost no tokens. What is left is told in the answer's headers. Knows no limit
and no Redis: `models_app.limits` does.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import structs

from inference.messages import (
    ChatMessage,
    ChatPrompt,
    Embed,
    Event,
    Failed,
    FillPrompt,
    Finished,
    Generate,
    Load,
    RawPrompt,
    Started,
    Token,
    TokensPrompt,
    Unload,
    Usage,
)
from inference.requests import Caller
from models_app import limits
from models_app.errors import LimitReached
from models_app.limits import Charge
from ollamasite.request_context import add_headers

_BYTES_PER_TOKEN: Final = 4
_TOKENS_PER_IMAGE: Final = 256
# Reserved for an answer that may be as long as it likes.
DEFAULT_ANSWER_TOKENS: Final = 512

Submittable = Generate | Embed | Load | Unload


class Share:
    """What one message of a call uses of the call's charge, which the last to settle settles."""

    def __init__(self, charge: Charge, unsettled: set["Share"]) -> None:
        self.charge = charge
        self._unsettled = unsettled
        self._used_tokens = 0
        unsettled.add(self)

    def note(self, event: Event) -> None:
        """Count an event's tokens. The end knows them exactly; until then every piece is one."""
        match event:
            case Started(prompt_tokens=prompt_tokens):
                self._count(self._used_tokens + prompt_tokens)
            case Token():
                self._count(self._used_tokens + 1)
            case Finished(usage=usage):
                self._count(usage.prompt_tokens + usage.completion_tokens)
            case Failed(usage=usage) if usage != Usage():  # the node has told
                self._count(usage.prompt_tokens + usage.completion_tokens)

    def settle(self) -> None:
        """Nothing more is used. Only the first call counts; must be called on the event loop."""
        self._unsettled.discard(self)
        if not self._unsettled:
            self.charge.settle()

    async def settle_soon(self) -> None:
        """Settle, and wait a moment if that settles the charge."""
        self.settle()
        if not self._unsettled:
            await self.charge.settle_soon()

    def _count(self, used_tokens: int) -> None:
        more, self._used_tokens = used_tokens - self._used_tokens, used_tokens
        self.charge.use(more)


async def reserve(caller: Caller, messages: Sequence[Submittable], model: str) -> list[Share]:
    """Hold what a call for a model, by its full name, will cost; tell the client what is left.

    Returns the share of every message. Raises RateLimited, QuotaExceeded, TooManyAtOnce,
    LimitsUnavailable.
    """
    charge = await limits.reserve(
        caller.principal,
        tokens=sum(estimate_tokens(message) for message in messages),
        model=model,
        same_call=_same_call(caller, messages),
        dialect=caller.dialect,
    )
    add_headers(charge.headers)
    unsettled: set[Share] = set()
    return [Share(charge, unsettled) for _ in messages]


def end_when_exceeded(
    shares: Sequence[Share], ends: Sequence[Callable[[LimitReached], None]]
) -> None:
    """Have a call's messages ended when a day or a month has no more tokens for it."""

    def end_all(error: LimitReached) -> None:
        for end in ends:
            end(error)

    shares[0].charge.tell_exceeded(end_all)


def estimate_tokens(message: Submittable) -> int:
    """Return how many tokens to reserve for a message."""
    match message:
        case Embed(inputs=inputs, runner=runner):
            return sum(min(runner.num_ctx, _tokens_of(value)) for value in inputs)
        case Generate(renders_only=False):
            prompt = min(message.runner.num_ctx, _prompt_tokens(message))
            answer = message.sampling.num_predict or DEFAULT_ANSWER_TOKENS
            return prompt + answer * message.choices
    return 0


def _prompt_tokens(message: Generate) -> int:
    match message.prompt:
        case ChatPrompt(messages=messages, context=context, tools=tools):
            images = sum(len(item.images) for item in messages)
            texts = sum(_message_tokens(item) for item in messages)
            return texts + _json_tokens(tools) + len(context) + images * _TOKENS_PER_IMAGE
        case RawPrompt(text=text, images=images):
            return _tokens_of(text) + len(images) * _TOKENS_PER_IMAGE
        case FillPrompt(prefix=prefix, suffix=suffix):
            return _tokens_of(prefix) + _tokens_of(suffix)
        case TokensPrompt(tokens=tokens):
            return len(tokens)


def _message_tokens(message: ChatMessage) -> int:
    calls = sum(_json_tokens(call) for call in message.tool_calls)
    return _tokens_of(message.content) + _tokens_of(message.thinking) + calls


def _json_tokens(value: object) -> int:
    """Return the tokens of what a template writes as JSON; nothing has none."""
    return -(-len(msgspec.json.encode(value)) // _BYTES_PER_TOKEN) if value else 0


def _tokens_of(value: str | tuple[int, ...]) -> int:
    if isinstance(value, tuple):
        return len(value)
    return -(-len(value.encode()) // _BYTES_PER_TOKEN)


def _same_call(caller: Caller, messages: Sequence[Submittable]) -> str:
    """Return what tries of one call have in common: their key and all that is asked for.

    One key for different requests would be a way around every limit.
    """
    if not caller.idempotency_key:
        return ""
    asked = msgspec.msgpack.encode(
        [structs.replace(message, request_id="", call_id="") for message in messages]
    )
    return f"{hashlib.blake2b(asked).hexdigest()} {caller.idempotency_key}"
