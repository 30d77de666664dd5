"""What the model sees of an image, as plain values, and the images last seen.

Knows no files, no projector and no context.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_HASH_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class TextPart:
    """Tokens of the model's vocabulary."""

    tokens: tuple[int, ...]

    @property
    def length(self) -> int:
        """Places among the prompt's tokens."""
        return len(self.tokens)

    @property
    def positions(self) -> int:
        """How far it advances its sequence."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingPart:
    """Rows that go into the model in place of tokens' embeddings.

    `layout` is mtmd's description of the run (sizes, kind of positions), without pixels.
    """

    layout: bytes
    rows: npt.NDArray[np.float32]  # (length, width of the model's input)
    positions: int

    @property
    def length(self) -> int:
        """Places among the prompt's tokens."""
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class LlamaImage:
    """What the model sees of an image. See `engine.model.EncodedImage`."""

    token: int
    length: int
    positions: int
    parts: tuple[TextPart | EmbeddingPart, ...]

    @property
    def size_bytes(self) -> int:
        """Memory that the embeddings take."""
        return sum(part.rows.nbytes for part in self.parts if isinstance(part, EmbeddingPart))


class RecentImages:
    """The images last used, up to a number of bytes; the newest always stays."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._images: OrderedDict[tuple[str, bytes], LlamaImage] = OrderedDict()

    def get(self, key: tuple[str, bytes]) -> LlamaImage | None:
        """Return an image and make it the newest."""
        image = self._images.get(key)
        if image is not None:
            self._images.move_to_end(key)
        return image

    def add(self, key: tuple[str, bytes], image: LlamaImage) -> None:
        """Add a new image and drop the oldest that are too many."""
        self._images[key] = image
        self._bytes += image.size_bytes
        while self._bytes > self._limit_bytes and len(self._images) > 1:
            _, oldest = self._images.popitem(last=False)
            self._bytes -= oldest.size_bytes


def image_token(digest: bytes) -> int:
    """Return a token from a hash: negative, within 64 bits."""
    return -1 - (int.from_bytes(digest[:_HASH_BYTES], "big") >> 1)
