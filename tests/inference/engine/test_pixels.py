"""Image files → pixels."""

import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.engine.llama.pixels import decode_rgb
from inference.engine.model import UnusableInput
from tests.vision_files import write_animation, write_image

KINDS = ("JPEG", "PNG", "WEBP", "GIF")
SAMPLES = [write_image(kind) for kind in KINDS] + [write_animation(kind) for kind in KINDS[1:]]


def saved(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_decoded_to_rows_of_rgb(kind: str) -> None:
    expected = np.asarray(Image.open(io.BytesIO(write_image("PNG", size=(48, 16)))))
    pixels = decode_rgb(write_image(kind, size=(48, 16)))
    assert pixels.shape == (16, 48, 3)
    assert np.abs(pixels.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    still = decode_rgb(write_image("PNG", seed=5)).astype(int)
    moving = decode_rgb(write_animation(kind, seeds=(5, 6)))
    assert np.abs(moving - still).mean() < 3


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")])
def test_transparent_pixels_are_white(mode: str, kind: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    assert decode_rgb(saved(clear, kind)).min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_every_colour_mode_of_png_is_decoded(mode: str) -> None:
    picture = Image.open(io.BytesIO(write_image("PNG"))).convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(decode_rgb(saved(picture)), expected)


def test_16_bits_of_grey_keep_their_brightness() -> None:
    grey = Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16))
    assert decode_rgb(saved(grey))[0, :, 0].tolist() == [0, 0x80, 0xFF]


def test_a_cmyk_jpeg_is_decoded() -> None:
    picture = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert decode_rgb(saved(picture, "JPEG")).min() > 250


@pytest.mark.parametrize("sample", [write_image(kind, size=(64, 64)) for kind in KINDS])
def test_a_file_that_is_cut_is_refused(sample: bytes) -> None:
    with pytest.raises(UnusableInput, match="broken or cut short"):
        decode_rgb(sample[: len(sample) // 2])


def test_a_second_frame_header_of_a_jpeg_cannot_enlarge_it() -> None:
    data = write_image("JPEG")
    place = data.index(b"\xff\xc0")
    frame = bytearray(data[place : place + 19])
    frame[5:9] = b"\x7f\xff\x7f\xff"
    with pytest.raises(UnusableInput, match="pixels"):
        decode_rgb(data[: place + 19] + bytes(frame) + data[place + 19 :])


def test_other_kinds_of_files_are_refused() -> None:
    with pytest.raises(UnusableInput, match="unsupported image format"):
        decode_rgb(saved(Image.new("RGB", (8, 8)), "BMP"))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.integers(0, 2**32), st.integers(1, 8), st.booleans())
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_file_is_decoded_or_refused(
    sample: bytes, seed: int, changes: int, cut: bool
) -> None:
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    damaged = bytearray(sample)
    for _ in range(changes):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    if cut:
        del damaged[chance.randrange(len(damaged)) :]
    try:
        pixels = decode_rgb(bytes(damaged))
    except UnusableInput as error:
        assert str(error)  # noqa: PT017 - either end is good
    else:
        assert pixels.shape[2] == 3
