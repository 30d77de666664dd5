"""Rendered text → runs of tokens with places for images between them.

Knows tokenizers and who wrote what; no requests, templates or windows but the model's own.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.engine.model import EncodedImage, UnusableInput, Vision, Vocabulary
from inference.prompting.marking import Segment

# More text than could ever fit is refused before it is tokenized.
_MOST_CHARACTERS_PER_TOKEN: Final = 64
_ALWAYS_ALLOWED_CHARACTERS: Final = 1_000_000
BLIND: Final = "this model is missing data required for image input"
_IMAGE_TAG: Final = re.compile(r"\[img-(\d+)\]")


class TextTooLong(Exception):
    """No window could hold the text."""


@dataclass(slots=True)
class Pieces:
    """Runs of tokens with images between them: the first text, the first image, a text, …."""

    runs: list[list[int]]
    images: list[int] = field(default_factory=list)  # number of the image behind each run
    text: str = ""  # what was tokenized

    @property
    def token_count(self) -> int:
        """How many tokens there are beside the images."""
        return sum(map(len, self.runs))

    def joined(
        self, vision: Vision | None, images: Sequence[bytes], scope: str
    ) -> tuple[list[int], dict[int, EncodedImage]]:
        """Return all tokens, and the images by the index of their first place.

        The places of an image hold its own token. What the model sees is remembered for the
        others of a scope. Raises UnusableInput.
        """
        if not images:
            return list(itertools.chain(*self.runs)), {}
        if vision is None:
            raise UnusableInput(BLIND)
        tokens = list(self.runs[0])
        placed: dict[int, EncodedImage] = {}
        for number, run in zip(self.images, self.runs[1:], strict=True):
            image = placed[len(tokens)] = vision.encode(images[number], scope=scope)
            tokens += [*([image.token] * image.length), *run]
        return tokens, placed

    def counted(self, vision: Vision | None, images: Sequence[bytes], scope: str) -> int:
        """Return how many tokens `joined` would give, images included. Raises UnusableInput."""
        if not images:
            return self.token_count
        if vision is None:
            raise UnusableInput(BLIND)
        seen = (vision.places(images[number], scope=scope) for number in self.images)
        return self.token_count + sum(seen)


def text_of(segments: Sequence[Segment]) -> str:
    """Return the text that segments make up."""
    return "".join(segment.text for segment in segments)


def is_too_long(vocabulary: Vocabulary, text: str) -> bool:
    """Whether no tokenizer could make a text fit into the model's window."""
    most = max(_ALWAYS_ALLOWED_CHARACTERS, vocabulary.window_tokens * _MOST_CHARACTERS_PER_TOKEN)
    return len(text) > most


def checked(vocabulary: Vocabulary, text: str) -> str:
    """Return a text that may be tokenized. Raises TextTooLong."""
    if is_too_long(vocabulary, text):
        raise TextTooLong
    return text


def with_bos(vocabulary: Vocabulary, tokens: list[int]) -> list[int]:
    """Return tokens with the BOS in front that the model may want, unless it is there."""
    bos = vocabulary.tokenize("")[:1] if vocabulary.adds_bos() else []
    return tokens if tokens[:1] == bos else bos + tokens


def tokenized(
    vocabulary: Vocabulary, segments: Sequence[Segment], image_count: int, *, is_first: bool
) -> Pieces:
    """Return the tokens of segments; the caller's become no control tokens.

    Images stand where the text has their tags, `[img-0]`, …. `is_first`: nothing stands in front
    of them. Raises TextTooLong.
    """
    runs: list[list[Segment]] = [[]]
    images: list[int] = []
    for segment in segments:
        parts = _IMAGE_TAG.split(segment.text) if image_count else [segment.text]
        runs[-1].append(Segment(parts[0], segment.is_callers))
        for number, text in zip(parts[1::2], parts[2::2], strict=True):
            if int(number) < image_count:
                images.append(int(number))
                runs.append([Segment(text, segment.is_callers)])
            else:
                runs[-1].append(Segment(f"[img-{number}]{text}", segment.is_callers))
    tokens = [_run(vocabulary, run, is_first=is_first and not at) for at, run in enumerate(runs)]
    return Pieces(tokens, images, text_of(segments))


def _run(vocabulary: Vocabulary, segments: Sequence[Segment], *, is_first: bool) -> list[int]:
    whole = checked(vocabulary, text_of(segments))
    if not any(segment.is_callers for segment in segments):
        if is_first:
            return vocabulary.tokenize(whole)
        return vocabulary.tokenize_part(whole, parse_special=True)
    tokens: list[int] = []
    # Two texts of the caller side by side are one text.
    for is_callers, group in itertools.groupby(segments, key=lambda segment: segment.is_callers):
        tokens += vocabulary.tokenize_part(text_of(list(group)), parse_special=not is_callers)
    return with_bos(vocabulary, tokens) if is_first else tokens
