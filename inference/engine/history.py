"""A chat → tokens, without its oldest messages where all of them do not fit (contract 6.3).

Rendered and tokenized as seldom as can be: once where everything fits. Knows no images' contents
and nothing of the requests around a chat.
"""

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from inference.engine.model import Model
from inference.engine.pieces import Pieces, is_too_long, tokenized, with_bos
from inference.messages import ChatMessage, ChatPrompt
from inference.prompting.chat import own_text, render_chat
from inference.prompting.errors import TemplateRunError
from inference.prompting.marking import disarmed

_COUNTED_TOKENS_PER_IMAGE: Final = 768  # contract 6.3
_CHARACTERS_PER_TOKEN: Final = 4  # of a text too long to be tokenized


@dataclass(frozen=True, slots=True)
class ShownChat:
    """What of a chat the model is shown; the first `own` tokens are from the model's manifest."""

    pieces: Pieces
    images: list[bytes]
    own: int


def shown_chat(model: Model, chat: ChatPrompt, limit: int, *, may_drop: bool) -> ShownChat:
    """Return what is shown of a chat: all, or as much as `limit` tokens hold.

    System messages and the last one always stay. Raises TemplateError, TextTooLong, ValueError.
    """
    if not all(map(model.has_token, chat.context)):
        raise ValueError("a token id is outside the vocabulary")
    history = _History(model, chat)
    start = 0
    if may_drop and history.count(0) > limit:
        start = history.first_fitting(limit)
    return history.shown(start)


def estimated_chat(model: Model, chat: ChatPrompt) -> int:
    """Return about how many tokens a chat has that is too long to be tokenized."""
    return _History(model, chat).count(0) + len(chat.context)


class _History:
    """A chat and what was found out about its ends, by the number of their first message."""

    def __init__(self, model: Model, chat: ChatPrompt) -> None:
        self._model = model
        self._names = model.boundary_texts()
        self._chat, self._stand_ins = disarmed(chat, model.control_names())
        self._rendered: dict[int, str] = {}
        self._pieces: dict[int, Pieces] = {}

    def count(self, start: int) -> int:
        """Return the tokens that count when old messages are dropped."""
        text = self._text(start)
        seen = _image_count(self._chat.messages[start:]) if self._model.vision is not None else 0
        if is_too_long(self._model, text):
            tokens = estimated(text)
        else:
            tokens = self._tokens(start).token_count
        return tokens + seen * _COUNTED_TOKENS_PER_IMAGE

    def first_fitting(self, limit: int) -> int:
        """Return the first message but 0 from which the chat fits, the last one if it never does.

        A template may insist on a question in front: where it refuses, nothing fits.
        """
        last = len(self._chat.messages) - 1

        def fits(start: int) -> bool:
            try:
                return self.count(start) <= limit
            except TemplateRunError:
                return False

        return first_true(fits, range(1, last), guess=self._guess(limit))

    def shown(self, start: int) -> ShownChat:
        pieces = self._tokens(start)
        chat = self._from(start)
        images = [image for message in chat.messages for image in message.images]
        return ShownChat(pieces, images, own=self._own(start, pieces))

    def _from(self, start: int) -> ChatPrompt:
        """Return the chat without the messages before `start`; system messages always stay."""
        messages = self._chat.messages
        systems = (message for message in messages[:start] if message.role == "system")
        return structs.replace(self._chat, messages=(*systems, *messages[start:]))

    def _text(self, start: int) -> str:
        """Return the rendered text, stand-ins and all."""
        if start not in self._rendered:
            self._rendered[start] = render_chat(self._from(start), self._names)
        return self._rendered[start]

    def _tokens(self, start: int) -> Pieces:
        """Return the tokens. Those of an earlier answer stand in front as they are.

        As text they would be tokenized otherwise, and what was text would become control tokens.
        """
        if start not in self._pieces:
            context = self._chat.context
            pieces = tokenized(
                self._model,
                self._stand_ins.segments(self._text(start)),
                _image_count(self._from(start).messages),
                is_first=not context,
            )
            if context:
                pieces.runs[0] = with_bos(self._model, [*context, *pieces.runs[0]])
            self._pieces[start] = pieces
        return self._pieces[start]

    def _own(self, start: int, pieces: Pieces) -> int:
        if self._chat.context or not self._chat.is_models_template:
            return 0
        text = own_text(self._from(start), self._text(start), self._names)
        return _agreeing(self._model.tokenize(text), pieces.runs[0]) if text else 0

    def _guess(self, limit: int) -> int:
        """Return about the first message from which the chat fits."""
        messages = self._chat.messages
        excess = self.count(0) - limit
        characters = len(self._text(0))
        tokens_per_character = self.count(0) / max(1, characters)
        around = max(0, characters - sum(map(_length, messages))) / len(messages)
        dropped = itertools.accumulate(
            0 if message.role == "system" else (_length(message) + around) * tokens_per_character
            for message in messages
        )
        return next((at + 1 for at, sum_ in enumerate(dropped) if sum_ >= excess), len(messages))


def first_true(test: Callable[[int], bool], numbers: range, *, guess: int) -> int:
    """Return the first number that passes a test which all behind it pass too.

    The range's end if none does. The nearer the guess, the fewer tests.
    """
    if not numbers:
        return numbers.stop
    at = min(max(guess, numbers.start), numbers.stop - 1)
    failed, passed = numbers.start - 1, numbers.stop
    for step in _doubling():
        if test(at):
            passed = at
            if failed >= numbers.start or at == numbers.start:
                break
            at = max(at - step, numbers.start)
        else:
            failed = at
            if passed < numbers.stop or at == numbers.stop - 1:
                break
            at = min(at + step, numbers.stop - 1)
    between = range(failed + 1, passed)
    return failed + 1 + bisect.bisect_left(between, True, key=test)  # noqa: FBT003


def _doubling() -> Iterator[int]:
    return (1 << power for power in itertools.count())


def _length(message: ChatMessage) -> int:
    return len(message.content) + len(message.thinking)


def estimated(text: str) -> int:
    """Return about how many tokens a text has that is too long to be tokenized."""
    return len(text) // _CHARACTERS_PER_TOKEN


def _image_count(messages: Sequence[ChatMessage]) -> int:
    return sum(len(message.images) for message in messages)


def _agreeing(first: Sequence[int], second: Sequence[int]) -> int:
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))
