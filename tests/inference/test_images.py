"""Image headers and limits: what the web checks before a request is accepted."""

import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidImage
from inference.image_headers import MAX_FILE_BYTES
from inference.images import MAX_IMAGES, check_images, read_header
from tests.vision_files import write_animation, write_image

KINDS = ("JPEG", "PNG", "WEBP", "GIF")
SAMPLES = [write_image(kind) for kind in KINDS] + [write_animation(kind) for kind in KINDS[1:]]


def png_header(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    body = struct.pack(">4sIIBBBBB", b"IHDR", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def jpeg_header(width: int, height: int, *, before: bytes = b"", code: int = 0xC0) -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, code, 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + before + frame


def gif_header(width: int, height: int, *, left: int = 0, top: int = 0) -> bytes:
    screen = struct.pack("<6sHHBBB", b"GIF89a", 8, 8, 0x80, 0, 0) + bytes(6)
    comment = b"\x21\xfe\x02hi\x01!\x00"
    return screen + comment + struct.pack("<BHHHHB", 0x2C, left, top, width, height, 0)


def webp_lossy_header(width: int, height: int) -> bytes:
    frame = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF\x20\0\0\0WEBPVP8 \x14\0\0\0" + frame


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_every_kind_is_read(kind: str) -> None:
    header = read_header(write_image(kind, size=(37, 21)))
    assert (header.kind, header.width, header.height) == (kind, 37, 21)


def test_the_size_of_a_lossy_webp_is_read_without_its_scaling_bits() -> None:
    header = read_header(webp_lossy_header(37 | 0x4000, 21 | 0x8000))
    assert (header.kind, header.width, header.height) == ("WEBP", 37, 21)


@pytest.mark.parametrize("code", [0xC0, 0xC1, 0xC2])
def test_a_jpegs_frame_is_found_behind_other_segments(code: int) -> None:
    before = b"\xff\xe1\x00\x06Exif" + b"\xff\xff" + b"\xff\xc4\x00\x04\x00\x00"
    header = read_header(jpeg_header(640, 480, before=before, code=code))
    assert (header.width, header.height) == (640, 480)


def test_a_gif_is_as_large_as_screen_and_first_frame_together() -> None:
    header = read_header(gif_header(20, 30, left=5))
    assert (header.width, header.height) == (25, 30)


@pytest.mark.parametrize("kind", ["WEBP", "GIF"])
def test_frames_are_unknown_where_the_header_does_not_count_them(kind: str) -> None:
    assert read_header(write_animation(kind)).frames is None


def test_an_animated_png_says_how_many_frames_it_has() -> None:
    assert read_header(write_animation("PNG", seeds=(1, 2, 3))).frames == 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_still_image_has_one_frame(kind: str) -> None:
    assert read_header(write_image(kind)).frames == 1


@pytest.mark.parametrize(
    "data",
    [
        png_header(16_385, 1),
        png_header(10_000, 10_000),
        png_header(2**31 - 1, 2**31 - 1),
        jpeg_header(65_535, 65_535),
        jpeg_header(8_000, 8_000),
        gif_header(10_000, 10_000),
        gif_header(8, 8, left=65_535),
        webp_lossy_header(0x3FFF, 0x3FFF),
        b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
    ],
    ids=[
        "png side",
        "png area",
        "png huge",
        "jpeg side",
        "jpeg area",
        "gif area",
        "gif side",
        "webp",
        "webp x",
    ],
)
def test_a_bomb_is_refused_for_the_size_it_announces(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="pixels"):
        read_header(data)


@pytest.mark.parametrize("data", [png_header(16_384, 2_000), jpeg_header(5_740, 5_740)])
def test_the_largest_images_are_taken(data: bytes) -> None:
    assert read_header(data).frames == 1


@pytest.mark.parametrize("data", [png_header(0, 5), jpeg_header(5, 0), webp_lossy_header(0, 5)])
def test_an_image_without_pixels_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="no pixels"):
        read_header(data)


def test_a_file_over_20_mib_is_refused() -> None:
    with pytest.raises(InvalidImage, match="larger than 20 MiB"):
        read_header(png_header(5, 5) + bytes(MAX_FILE_BYTES))


@pytest.mark.parametrize(
    "data",
    [
        b"BM" + bytes(60),
        b"%PDF-1.7",
        b"<svg xmlns='x'/>",
        b"ID3\x04" + bytes(60),
        b"II*\0" + bytes(9),
    ],
    ids=["bmp", "pdf", "svg", "mp3", "tiff"],
)
def test_other_kinds_of_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="unsupported image format"):
        read_header(data)


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(InvalidImage, match="empty"):
        read_header(b"")


@pytest.mark.parametrize(("depth", "colour"), [(3, 2), (8, 1), (16, 3), (0, 0)])
def test_a_png_with_an_impossible_header_is_refused(depth: int, colour: int) -> None:
    with pytest.raises(InvalidImage, match="not valid"):
        read_header(png_header(5, 5, depth=depth, colour=colour))


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("count", [3, 9, 12, 20])
def test_a_header_that_is_cut_is_refused(sample: bytes, count: int) -> None:
    with pytest.raises(InvalidImage):
        read_header(sample[:count])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * (MAX_FILE_BYTES // 4 - 1),
        b"\xff\xd8" + b"\xff" * (MAX_FILE_BYTES - 2),
        gif_header(5, 5)[:19] + b"\x21\xfe" + b"\x01a" * (MAX_FILE_BYTES // 2 - 11),
        png_header(5, 5) + b"\0\0\0\0tEXt\0\0\0\0" * (MAX_FILE_BYTES // 12 - 4),
    ],
    ids=["segments", "fill bytes", "comments", "chunks"],
)
def test_a_header_without_end_is_not_read_to_its_end(data: bytes) -> None:
    tracemalloc.start()
    try:
        check_images([data])
    except InvalidImage as error:
        assert "has no" in error.message  # noqa: PT017 - a PNG may go on like that
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_16_images_are_taken() -> None:
    check_images([png_header(5, 5)] * MAX_IMAGES)


def test_17_images_are_refused() -> None:
    with pytest.raises(InvalidImage, match="17 images; 16 are the most"):
        check_images([png_header(5, 5)] * (MAX_IMAGES + 1))


def test_one_bad_image_among_good_ones_is_refused() -> None:
    with pytest.raises(InvalidImage, match="unsupported image format"):
        check_images([png_header(5, 5), b"text", png_header(5, 5)])


def refuses_or_reads(data: bytes) -> None:
    try:
        header = read_header(data)
    except InvalidImage as error:
        assert error.message  # noqa: PT017 - either end is good
    else:
        assert 0 < header.width * header.height <= 33_000_000


@given(st.sampled_from([s[:12] for s in SAMPLES] + [b"\xff\xd8\xff"]), st.binary(max_size=200))
def test_garbage_behind_a_signature_never_fails_otherwise(signature: bytes, data: bytes) -> None:
    refuses_or_reads(signature + data)


@given(st.sampled_from(SAMPLES), st.integers(0, 60), st.integers(0, 255), st.integers(0, 400))
def test_a_damaged_header_never_fails_otherwise(
    sample: bytes, place: int, value: int, end: int
) -> None:
    damaged = bytearray(sample)
    damaged[place] = value
    refuses_or_reads(bytes(damaged[: end or None]))
