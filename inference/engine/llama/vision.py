"""A model's eyes: llama.cpp's projector (mtmd.h) behind `engine.model.Vision`.

An image becomes a list of parts: runs of embeddings, and the text tokens that the projector's
family puts around an image and between its slices. All of them are places of the image, because
for some families the text depends on the image's size. Knows no requests and no templates.

`encode` computes in the projector's own graph and buffers; it may run while another thread decodes
with the same text model. `decode` belongs to the thread that decodes.
"""

import contextlib
import ctypes
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as lib
import llama_cpp.mtmd_cpp as mtmd
import numpy as np

from inference.engine.llama import backend
from inference.engine.llama.encoded_image import (
    EmbeddingPart,
    LlamaImage,
    RecentImages,
    TextPart,
    image_token,
)
from inference.engine.llama.memory_batch import TokenBatch
from inference.engine.llama.pixels import Pixels, decode_rgb, reduced
from inference.engine.model import Chunk, DecodeError, LoadError, UnusableInput

_CACHE_BYTES: Final = 128 * 1024 * 1024
_MOST_REDUCTIONS: Final = 3
_REDUCTION_MARGIN: Final = 0.95  # sides are rounded to whole patches


class LlamaVision:
    """A projector for one loaded text model. See `engine.model.Vision`."""

    def __init__(
        self,
        path: str,
        model: Any,
        *,
        threads: int,
        batch_tokens: int,
        window_tokens: int,
        uses_gpu: bool = False,
    ) -> None:
        """Load a projector for llama.cpp's model `model`. Raises LoadError."""
        backend.start_backend()
        mtmd.mtmd_helper_log_set(backend.log_callback(), ctypes.c_void_p(0))
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = uses_gpu
        params.n_threads = threads
        params.print_timings = False
        self._native = mtmd.mtmd_init_from_file(path.encode(), model, params)
        if not self._native:
            raise LoadError(f"llama.cpp cannot load the projector: {backend.last_error()}")
        if not mtmd.mtmd_support_vision(self._native):
            self.close()
            raise LoadError("the projector is not for images")
        self.size_bytes = Path(path).stat().st_size
        self._batch_tokens = batch_tokens
        self._window_tokens = window_tokens
        self._n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)))
        self._width = int(lib.llama_model_n_embd_inp(model))
        self._text_batch = TokenBatch(batch_tokens)
        self._recent = RecentImages(_CACHE_BYTES)

    def encode(self, image: bytes, *, scope: str = "") -> LlamaImage:
        """See `Vision`. An image is encoded once while it is remembered.

        What one scope has shown is not remembered for another: the time would tell that somebody
        has the same image.
        """
        digest = hashlib.sha256(image).digest()
        known = self._recent.get((scope, digest))
        if known is None:
            known = self._encode(decode_rgb(image), image_token(digest))
            self._recent.add((scope, digest), known)
        return known

    def places(self, image: bytes, *, scope: str = "") -> int:
        """See `Vision`."""
        known = self._recent.get((scope, hashlib.sha256(image).digest()))
        if known is not None:
            return known.length
        pixels = decode_rgb(image)
        with self._chunks(pixels) as chunks:
            length = _places(chunks)
        if length <= self._window_tokens // 2:
            return length
        with self._chunks(self._smaller(pixels, length)) as chunks:
            return _places(chunks)

    def decode(self, context: Any, sequence: int, start: int, image: LlamaImage) -> None:
        """Put an image into a sequence of llama.cpp's `context` at a position.

        No logits come of it: a prompt needs a token behind its last image. Raises DecodeError.
        """
        for part in image.parts:
            if isinstance(part, TextPart):
                self._decode_text(context, sequence, start, part)
            else:
                self._decode_rows(context, sequence, start, part)
            start += part.positions

    def close(self) -> None:
        """Free the projector, before its text model. A second call does nothing."""
        if self._native:
            mtmd.mtmd_free(self._native)
            self._native = None

    def _encode(self, pixels: Pixels, token: int) -> LlamaImage:
        with self._chunks(pixels) as chunks:
            length = _places(chunks)
            if length <= self._window_tokens // 2:
                return self._image(chunks, token)
        with self._chunks(self._smaller(pixels, length)) as chunks:
            return self._image(chunks, token)

    def _smaller(self, pixels: Pixels, length: int) -> Pixels:
        """Return an image reduced to half of the window at most, for the text needs room too.

        The same image where its number of places does not depend on its size.
        """
        most, smaller = self._window_tokens // 2, pixels
        for _ in range(_MOST_REDUCTIONS):
            smaller = reduced(smaller, _REDUCTION_MARGIN * math.sqrt(most / length))
            with self._chunks(smaller) as chunks:
                length = _places(chunks)
            if length <= most:
                return smaller
        return pixels

    def _image(self, chunks: list[Any], token: int) -> LlamaImage:
        self._check(chunks)
        parts = tuple(self._part(chunk) for chunk in chunks)
        return LlamaImage(
            token=token,
            length=sum(part.length for part in parts),
            positions=sum(part.positions for part in parts),
            parts=parts,
        )

    @contextlib.contextmanager
    def _chunks(self, pixels: Pixels) -> Iterator[list[Any]]:
        """Give mtmd's chunks of an image, in order; they live as long as the block."""
        height, width = pixels.shape[:2]
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(
            text=marker, text_len=len(marker), add_special=False, parse_special=True
        )
        bitmap = mtmd.mtmd_bitmap_init(width, height, data)
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._native, chunks, ctypes.byref(text), bitmaps, 1) != 0:
                raise UnusableInput(f"the model cannot take an image of {width} × {height} pixels")
            count = int(mtmd.mtmd_input_chunks_size(chunks))
            yield [mtmd.mtmd_input_chunks_get(chunks, index) for index in range(count)]
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    def _check(self, chunks: list[Any]) -> None:
        """Refuse, before anything is computed, what could not be decoded: UnusableInput."""
        length = _places(chunks)
        if length >= self._window_tokens:
            raise UnusableInput(
                f"the image takes {length} tokens; the context has {self._window_tokens}"
            )
        images = [chunk for chunk in chunks if _kind(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE]
        if not images:
            raise UnusableInput("the model sees nothing in the image")
        # llama.cpp ends the process where attention in both directions meets a smaller batch.
        together = any(mtmd.mtmd_decode_use_non_causal(self._native, chunk) for chunk in images)
        longest = max(int(mtmd.mtmd_input_chunk_get_n_tokens(chunk)) for chunk in images)
        if together and longest > self._batch_tokens:
            raise UnusableInput(
                f"the image takes {longest} tokens at once; num_batch is {self._batch_tokens}"
            )

    def _part(self, chunk: Any) -> TextPart | EmbeddingPart:
        if _kind(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
            return self._text_part(chunk)
        if mtmd.mtmd_encode_chunk(self._native, chunk) != 0:
            raise UnusableInput("the model cannot encode the image")
        length = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        rows = np.ctypeslib.as_array(
            mtmd.mtmd_get_output_embd(self._native), (length, self._width)
        ).copy()
        return EmbeddingPart(_layout(chunk), rows, int(mtmd.mtmd_input_chunk_get_n_pos(chunk)))

    def _text_part(self, chunk: Any) -> TextPart:
        count = ctypes.c_size_t()
        tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        found = tuple(tokens[: count.value])
        if not all(0 <= token < self._n_vocab for token in found):
            raise UnusableInput("the model's vocabulary lacks tokens that its projector needs")
        return TextPart(found)

    def _decode_text(self, context: Any, sequence: int, start: int, part: TextPart) -> None:
        for begin in range(0, part.length, self._batch_tokens):
            tokens = part.tokens[begin : begin + self._batch_tokens]
            self._text_batch.fill([Chunk(sequence, start + begin, tokens, wants_logits=False)])
            _raise_for(lib.llama_decode(context, self._text_batch.native))

    def _decode_rows(self, context: Any, sequence: int, start: int, part: EmbeddingPart) -> None:
        end = lib.llama_pos()
        chunk = mtmd.mtmd_input_chunk_load(part.layout, len(part.layout))
        try:
            status = mtmd.mtmd_helper_decode_image_chunk(
                self._native,
                context,
                chunk,
                part.rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
                start,
                sequence,
                self._batch_tokens,
                ctypes.byref(end),
                mtmd.mtmd_helper_post_decode_callback(),
                ctypes.c_void_p(0),
            )
        finally:
            mtmd.mtmd_input_chunk_free(chunk)
        _raise_for(status)


def _kind(chunk: Any) -> int:
    return int(mtmd.mtmd_input_chunk_get_type(chunk))


def _places(chunks: list[Any]) -> int:
    return sum(int(mtmd.mtmd_input_chunk_get_n_tokens(chunk)) for chunk in chunks)


def _layout(chunk: Any) -> bytes:
    size = ctypes.c_size_t()
    mtmd.mtmd_input_chunk_save(chunk, None, 0, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    mtmd.mtmd_input_chunk_save(chunk, buffer, size.value, ctypes.byref(size))
    return buffer.raw


def _raise_for(status: int) -> None:
    if status != 0:
        raise DecodeError(f"llama_decode returned {status} for an image: {backend.last_error()}")
