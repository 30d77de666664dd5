"""Images through llama.cpp's projectors, with tiny random ones of four families."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp.mtmd_cpp as mtmd
import numpy as np
import pytest

from inference.engine.llama.encoded_image import EmbeddingPart, LlamaImage
from inference.engine.llama.vision import LlamaVision
from inference.engine.model import DecodeError, LoadError, UnusableInput
from tests.inference.engine.llama_session import BATCH_TOKENS, WINDOW_TOKENS, LlamaSession
from tests.vision_files import (
    PATCHES,
    SLICE_TOKENS,
    SPAN_TOKENS,
    write_animation,
    write_image,
    write_projector,
    write_text_model,
)

BEFORE = [1, 300, 301]
BEHIND = [302, 303]
TEXT_MODELS = {
    "mlp": ("llama", ()),
    "gemma3": ("llama", ("<start_of_image>", "<end_of_image>")),
    "idefics3": ("llama", SLICE_TOKENS),
    "qwen2vl_merger": ("qwen2vl", SPAN_TOKENS),
}
KINDS = tuple(TEXT_MODELS)


class Seeing:
    """A text model with a projector."""

    def __init__(self, folder: Path, kind: str, **limits: int) -> None:
        architecture, names = TEXT_MODELS[kind]
        text = write_text_model(folder / "text.gguf", architecture=architecture, renamed=names)
        self.session = LlamaSession(text)
        self.vision = new_vision(self.session, write_projector(folder / "mm.gguf", kind), **limits)

    def decode(self, image: LlamaImage, start: int = 0, sequence: int = 0) -> None:
        """Put an image into the KV cache."""
        self.vision.decode(self.session.context, sequence, start, image)

    def logits_after(self, *images: LlamaImage, sequence: int = 0) -> np.ndarray:
        """Return the next token's logits after text, images and text."""
        self.session.forget(sequence)
        self.session.logits_after(BEFORE, sequence=sequence)
        position = len(BEFORE)
        for image in images:
            self.decode(image, position, sequence)
            position += image.positions
        return self.session.logits_after(BEHIND, position, sequence)

    def close(self) -> None:
        """Free both."""
        self.vision.close()
        self.session.close()


def new_vision(
    session: LlamaSession,
    projector: Path,
    *,
    batch_tokens: int = BATCH_TOKENS,
    window_tokens: int = WINDOW_TOKENS,
) -> LlamaVision:
    return LlamaVision(
        str(projector),
        session.model,
        threads=1,
        batch_tokens=batch_tokens,
        window_tokens=window_tokens,
    )


def embedded(image: LlamaImage) -> list[EmbeddingPart]:
    return [part for part in image.parts if isinstance(part, EmbeddingPart)]


@pytest.fixture
def see(tmp_path: Path) -> Iterator[Callable[..., Seeing]]:
    opened: list[Seeing] = []

    def open_one(kind: str = "mlp", **limits: int) -> Seeing:
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        opened.append(Seeing(folder, kind, **limits))
        return opened[-1]

    yield open_one
    for seeing in opened:
        seeing.close()


@pytest.mark.parametrize("kind", KINDS)
def test_another_image_changes_what_comes_next(see: Callable[..., Seeing], kind: str) -> None:
    seeing = see(kind)
    first, second = (seeing.vision.encode(write_image("PNG", seed=seed)) for seed in (1, 2))
    assert not np.allclose(seeing.logits_after(first), seeing.logits_after(second), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_gives_the_same_logits_in_every_sequence(
    see: Callable[..., Seeing], kind: str
) -> None:
    seeing = see(kind)
    image = seeing.vision.encode(write_image("PNG"))
    first, second = (seeing.logits_after(image, sequence=sequence) for sequence in (0, 1))
    assert np.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_decoded_as_llama_cpp_itself_does_it(
    see: Callable[..., Seeing], kind: str
) -> None:
    seeing = see(kind)
    file = write_image("PNG", size=(96, 48))
    ours = seeing.logits_after(seeing.vision.encode(file))
    seeing.session.forget()
    seeing.session.logits_after(BEFORE)
    position = evaluate_with_mtmd(seeing, file, len(BEFORE))
    theirs = seeing.session.logits_after(BEHIND, position)
    assert np.allclose(ours, theirs, atol=1e-4)


def evaluate_with_mtmd(seeing: Seeing, file: bytes, start: int) -> int:
    """Let mtmd decode, encode and evaluate an image file; return the position behind it."""
    native, marker = seeing.vision._native, mtmd.mtmd_default_marker()
    buffer = (ctypes.c_uint8 * len(file)).from_buffer_copy(file)
    bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(native, buffer, len(file), False)
    text = mtmd.mtmd_input_text(marker, len(marker), False, True)
    chunks = mtmd.mtmd_input_chunks_init()
    bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
    assert mtmd.mtmd_tokenize(native, chunks, ctypes.byref(text), bitmaps, 1) == 0
    end = ctypes.c_int32(start)
    context = seeing.session.context
    status = mtmd.mtmd_helper_eval_chunks(
        native, context, chunks, start, 0, BATCH_TOKENS, False, ctypes.byref(end)
    )
    assert status == 0
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_bitmap_free(bitmap)
    return int(end.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_advances_its_sequence_by_its_positions(
    see: Callable[..., Seeing], kind: str
) -> None:
    seeing = see(kind)
    image = seeing.vision.encode(write_image("PNG", size=(96, 48)))
    seeing.decode(image)
    seeing.session.logits_after([300], image.positions)
    assert seeing.session.last_position() == image.positions


def test_llava_takes_a_place_for_every_patch(see: Callable[..., Seeing]) -> None:
    image = see("mlp").vision.encode(write_image("PNG"))
    assert (image.length, image.positions) == (PATCHES, PATCHES)


def test_two_dimensional_positions_are_fewer_than_places(see: Callable[..., Seeing]) -> None:
    # 12 × 6 patches of 8 pixels, merged two by two, between two tokens of text.
    image = see("qwen2vl_merger").vision.encode(write_image("PNG", size=(96, 48)))
    assert (image.length, image.positions) == (6 * 3 + 2, 6 + 2)


def test_slices_have_their_text_between_them(see: Callable[..., Seeing]) -> None:
    image = see("idefics3").vision.encode(write_image("PNG", size=(64, 32)))
    rows = embedded(image)
    assert len(rows) == 8 + 1
    assert image.length > sum(part.length for part in rows)


def test_two_images_are_both_seen(see: Callable[..., Seeing]) -> None:
    seeing = see()
    one, two = (seeing.vision.encode(write_image("PNG", seed=seed)) for seed in (1, 2))
    assert not np.allclose(seeing.logits_after(one, two), seeing.logits_after(two, one), atol=1e-3)


def test_different_images_have_different_tokens(see: Callable[..., Seeing]) -> None:
    vision = see().vision
    tokens = {vision.encode(write_image("PNG", seed=seed)).token for seed in range(5)}
    assert len(tokens) == 5
    assert max(tokens) < 0


def test_same_image_has_the_same_token_when_the_model_is_loaded_again(
    see: Callable[..., Seeing],
) -> None:
    first = see().vision.encode(write_image("PNG"))
    assert see().vision.encode(write_image("PNG")).token == first.token


def test_an_image_seen_again_is_not_encoded_again(see: Callable[..., Seeing]) -> None:
    vision = see().vision
    assert vision.encode(write_image("PNG")) is vision.encode(write_image("PNG"))


def test_what_one_scope_has_shown_is_encoded_anew_for_another(see: Callable[..., Seeing]) -> None:
    vision = see().vision
    mine, others = (vision.encode(write_image("PNG"), scope=scope) for scope in ("a", "b"))
    assert mine is not others
    assert mine.token == others.token


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_every_kind_of_file_shows_the_same_picture(see: Callable[..., Seeing], kind: str) -> None:
    seeing = see()
    png, same, other = (
        seeing.logits_after(seeing.vision.encode(file))
        for file in (write_image("PNG"), write_image(kind), write_image(kind, seed=1))
    )
    assert np.abs(png - same).max() < np.abs(png - other).max() / 5


def test_llama_cpp_takes_pixels_in_our_order(see: Callable[..., Seeing]) -> None:
    """A tall image and the same turned on its side differ, so rows are not columns."""
    vision = see("qwen2vl_merger").vision
    tall = vision.encode(write_image("PNG", size=(32, 96)))
    wide = vision.encode(write_image("PNG", size=(96, 32)))
    layouts = [embedded(image)[0].layout for image in (tall, wide)]
    assert layouts[0] != layouts[1]


def test_an_animation_shows_its_first_frame(see: Callable[..., Seeing]) -> None:
    seeing = see()
    still = seeing.vision.encode(write_image("PNG", seed=3))
    moving = seeing.vision.encode(write_animation("WEBP", seeds=(3, 4)))
    assert np.allclose(seeing.logits_after(still), seeing.logits_after(moving), atol=1e-3)


def test_encoding_beside_decoding_changes_neither(see: Callable[..., Seeing]) -> None:
    seeing = see("qwen2vl_merger")
    files = [write_image("PNG", seed=seed, size=(160, 160)) for seed in range(8)]
    quiet = [seeing.vision.encode(file, scope="quiet") for file in files]
    expected = seeing.logits_after(quiet[0])
    loud: list[LlamaImage] = []
    thread = threading.Thread(target=lambda: loud.extend(map(seeing.vision.encode, files)))
    thread.start()
    seen = [seeing.logits_after(quiet[0])]
    while thread.is_alive():
        seen.append(seeing.logits_after(quiet[0]))
    thread.join()
    assert all(np.array_equal(logits, expected) for logits in seen)
    rows = [embedded(image)[0].rows for image in (*quiet, *loud)]
    assert all(np.array_equal(*pair) for pair in zip(rows[:8], rows[8:], strict=True))


def test_an_image_longer_than_the_window_is_refused(see: Callable[..., Seeing]) -> None:
    with pytest.raises(UnusableInput, match="takes 16 tokens; the context has 16"):
        see(window_tokens=PATCHES).vision.encode(write_image("PNG"))


def test_a_large_image_is_reduced_to_half_of_the_window(see: Callable[..., Seeing]) -> None:
    image = see("qwen2vl_merger", window_tokens=256).vision.encode(
        write_image("PNG", size=(640, 320))
    )
    assert 64 < image.length <= 128


@pytest.mark.parametrize(
    ("kind", "window_tokens", "size"),
    [
        ("mlp", 256, (32, 32)),
        ("gemma3", 256, (32, 32)),
        ("idefics3", 1024, (32, 32)),
        ("qwen2vl_merger", 256, (640, 320)),  # reduced
    ],
)
def test_an_images_places_are_known_before_it_is_encoded(
    see: Callable[..., Seeing], kind: str, window_tokens: int, size: tuple[int, int]
) -> None:
    vision = see(kind, window_tokens=window_tokens).vision
    image = write_image("PNG", size=size)
    before = vision.places(image)
    assert before == vision.encode(image).length == vision.places(image)


def test_an_image_of_fixed_length_may_take_more_than_half_of_the_window(
    see: Callable[..., Seeing],
) -> None:
    vision = see(window_tokens=PATCHES + 1).vision
    assert vision.encode(write_image("PNG")).length == PATCHES


def test_an_image_attended_both_ways_must_fit_one_batch(see: Callable[..., Seeing]) -> None:
    with pytest.raises(UnusableInput, match="takes 4 tokens at once; num_batch is 3"):
        see("gemma3", batch_tokens=3).vision.encode(write_image("PNG"))


def test_an_image_longer_than_a_batch_is_decoded_in_pieces(see: Callable[..., Seeing]) -> None:
    seeing = see("mlp")
    whole = seeing.logits_after(seeing.vision.encode(write_image("PNG")))
    seeing.vision._batch_tokens = 5
    pieces = seeing.logits_after(seeing.vision.encode(write_image("PNG")))
    assert np.allclose(whole, pieces, atol=1e-4)


def test_an_image_in_a_full_window_is_a_decode_error(see: Callable[..., Seeing]) -> None:
    seeing = see()
    image = seeing.vision.encode(write_image("PNG"))
    with pytest.raises(DecodeError):
        for number in range(WINDOW_TOKENS // PATCHES + 1):
            seeing.decode(image, number * PATCHES)


def test_a_shape_that_the_projector_cannot_slice_is_refused(see: Callable[..., Seeing]) -> None:
    with pytest.raises(UnusableInput, match="cannot take an image of 1000 × 1 pixels"):
        see("idefics3").vision.encode(write_image("PNG", size=(1000, 1)))


def test_a_vocabulary_without_the_projectors_tokens_is_refused(tmp_path: Path) -> None:
    session = LlamaSession(write_text_model(tmp_path / "text.gguf"))
    vision = new_vision(
        session, write_projector(tmp_path / "mm.gguf", "idefics3"), window_tokens=4096
    )
    with pytest.raises(UnusableInput, match="lacks tokens"):
        vision.encode(write_image("PNG"))
    vision.close()
    session.close()


def test_a_projector_of_another_width_is_refused(tmp_path: Path) -> None:
    session = LlamaSession(write_text_model(tmp_path / "text.gguf"))
    projector = write_projector(tmp_path / "mm.gguf", width=96)
    with pytest.raises(LoadError, match="n_embd = 96"):
        new_vision(session, projector)
    session.close()


def test_a_text_model_is_no_projector(tmp_path: Path) -> None:
    text = write_text_model(tmp_path / "text.gguf")
    session = LlamaSession(text)
    with pytest.raises(LoadError, match="cannot load the projector"):
        new_vision(session, text)
    session.close()


def test_the_oldest_images_are_forgotten_first(see: Callable[..., Seeing]) -> None:
    vision = see().vision
    files = [write_image("PNG", seed=seed) for seed in range(3)]
    first, second, third = (vision.encode(file) for file in files)
    vision._recent._limit_bytes = third.size_bytes * 3
    vision.encode(files[0])
    vision.encode(write_image("PNG", seed=9))
    assert vision.encode(files[0]) is first
    assert vision.encode(files[1]) is not second
