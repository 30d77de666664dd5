"""Which parts of a rendered prompt the caller wrote, and which the model's own files.

The caller's texts are put between two marks before the template runs; where the result without its
marks is what the template makes of the texts themselves, the marks show what is whose. A template
that looks into the texts (trims them, compares them) gives no such answer. Knows no tokens.
"""

from dataclasses import dataclass
from typing import Final

from msgspec import structs

from inference.messages import ChatMessage, ChatPrompt
from inference.prompting.ollama import render_chat

# Supplementary private use area B: no text means anything by these characters.
_FIRST_MARK: Final = 0x100000
_LAST_MARK: Final = 0x10FFFC


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered prompt."""

    text: str
    is_callers: bool


def render_segments(prompt: ChatPrompt) -> tuple[list[Segment], bool]:
    """Render a chat; return its pieces in order and whether it is known whose they are.

    Where it is not known, there is one piece, not marked as the caller's. Raises TemplateError.
    """
    plain = render_chat(prompt)
    whole = [Segment(plain, is_callers=False)]
    texts = [text for message in prompt.messages for text in _callers_texts(message)]
    if not texts:
        return whole, True
    opening, closing = _unused_marks("".join(texts) + plain)
    messages = tuple(_marked(message, opening, closing) for message in prompt.messages)
    marked = render_chat(structs.replace(prompt, messages=messages))
    if marked.replace(opening, "").replace(closing, "") != plain:
        return whole, False
    return _split(marked, opening, closing), True


def _callers_texts(message: ChatMessage) -> list[str]:
    if message.is_models_own:
        return []
    return [text for text in (message.content, message.thinking) if text]


def _unused_marks(text: str) -> tuple[str, str]:
    """Return two characters that the text does not hold."""
    used = set(text)
    unused = (chr(code) for code in range(_FIRST_MARK, _LAST_MARK) if chr(code) not in used)
    return next(unused), next(unused)


def _marked(message: ChatMessage, opening: str, closing: str) -> ChatMessage:
    if message.is_models_own:
        return message

    def between(text: str) -> str:
        return f"{opening}{text}{closing}" if text else text

    return structs.replace(
        message, content=between(message.content), thinking=between(message.thinking)
    )


def _split(marked: str, opening: str, closing: str) -> list[Segment]:
    segments: list[Segment] = []
    outside = marked.split(opening)
    segments.append(Segment(outside[0], is_callers=False))
    for part in outside[1:]:
        inside, _, behind = part.partition(closing)
        segments.append(Segment(inside, is_callers=True))
        segments.append(Segment(behind, is_callers=False))
    return [segment for segment in segments if segment.text]
