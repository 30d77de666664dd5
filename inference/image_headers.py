"""What an image file says of itself in its first bytes: kind, size, frames. Decodes nothing.

JPEG (ITU-T T.81, B.2), PNG (W3C PNG, 5 and 11.2.1), WebP (RFC 9649) and GIF (GIF89a, 17-20).
Reads a bounded number of bytes, so a hostile file costs no more than an honest one. Knows no
requests, web or pixels; used by the web before a request is accepted and by the engine before it
decodes.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_FILE_BYTES: Final = 20 * 1024 * 1024
MAX_SIDE_PIXELS: Final = 16_384
MAX_PIXELS: Final = 33_000_000

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_DEPTHS: Final = {
    0: (1, 2, 4, 8, 16),
    2: (8, 16),
    3: (1, 2, 4, 8),
    4: (8, 16),
    6: (8, 16),
}
_MOST_PNG_CHUNKS: Final = 64  # looked through for the animation's header
_MOST_JPEG_SEGMENTS: Final = 1024
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0…SOF15
_JPEG_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN: Final = 0xDA
_JPEG_END: Final = 0xD9
_JPEG_COMPONENTS: Final = (1, 3, 4)
_JPEG_PRECISIONS: Final = (8, 12)
_MOST_GIF_BLOCKS: Final = 20_000  # comments come in blocks of 255 bytes
_GIF_EXTENSION: Final = 0x21
_GIF_FRAME: Final = 0x2C


class ImageHeaderError(ValueError):
    """The file is not an image that can be taken, said in words for the client."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """A file's own statement. Sides in pixels."""

    kind: str  # "JPEG", "PNG", "WEBP" or "GIF"
    width: int
    height: int
    frames: int | None  # None: the header does not say


def read_header(data: bytes) -> ImageInfo:
    """Return what the file says of itself, within the limits. Raises ImageHeaderError."""
    if not data:
        raise ImageHeaderError("the image is empty")
    if len(data) > MAX_FILE_BYTES:
        raise ImageHeaderError(f"the image is larger than {MAX_FILE_BYTES >> 20} MiB")
    for is_kind, read in _READERS:
        if is_kind(data):
            info = read(data)
            check_size(info.width, info.height)
            return info
    raise ImageHeaderError("unsupported image format: only JPEG, PNG, WebP and GIF are read")


def check_size(width: int, height: int) -> None:
    """Refuse sides and areas in pixels that are zero or over the limits: ImageHeaderError."""
    if width < 1 or height < 1:
        raise ImageHeaderError("the image has no pixels")
    if max(width, height) > MAX_SIDE_PIXELS:
        raise ImageHeaderError(
            f"the image has {width} × {height} pixels; a side may have {MAX_SIDE_PIXELS}"
        )
    if width * height > MAX_PIXELS:
        raise ImageHeaderError(
            f"the image has {width} × {height} pixels; "
            f"{MAX_PIXELS // 1_000_000} megapixels are the most"
        )


def _is_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff")


def _is_png(data: bytes) -> bool:
    return data.startswith(_PNG_SIGNATURE)


def _is_webp(data: bytes) -> bool:
    return data.startswith(b"RIFF") and data[8:12] == b"WEBP"


def _is_gif(data: bytes) -> bool:
    return data.startswith((b"GIF87a", b"GIF89a"))


def _bytes_at(data: bytes, start: int, count: int) -> bytes:
    part = data[start : start + count]
    if len(part) < count:
        raise ImageHeaderError("the image is cut short")
    return part


def _big(data: bytes, start: int, count: int) -> int:
    return int.from_bytes(_bytes_at(data, start, count), "big")


def _little(data: bytes, start: int, count: int) -> int:
    return int.from_bytes(_bytes_at(data, start, count), "little")


# ---------------------------------------------------------------- JPEG


def _read_jpeg(data: bytes) -> ImageInfo:
    position = 2
    for _ in range(_MOST_JPEG_SEGMENTS):
        mark, code = _bytes_at(data, position, 2)
        if mark != 0xFF:  # noqa: PLR2004 - every marker begins with it
            break
        if code == 0xFF:  # noqa: PLR2004 - a fill byte
            position += 1
        elif code in _JPEG_WITHOUT_LENGTH:
            position += 2
        elif code in _JPEG_FRAMES:
            return _jpeg_frame(data, position + 4)
        elif code in (_JPEG_SCAN, _JPEG_END, 0):
            break
        else:
            position += 2 + max(2, _big(data, position + 2, 2))
    raise ImageHeaderError("the JPEG has no frame header")


def _jpeg_frame(data: bytes, start: int) -> ImageInfo:
    precision, components = _big(data, start, 1), _big(data, start + 5, 1)
    if precision not in _JPEG_PRECISIONS or components not in _JPEG_COMPONENTS:
        raise ImageHeaderError("the JPEG's frame header is not valid")
    return ImageInfo("JPEG", _big(data, start + 3, 2), _big(data, start + 1, 2), 1)


# ---------------------------------------------------------------- PNG


def _read_png(data: bytes) -> ImageInfo:
    if _bytes_at(data, 8, 8) != b"\0\0\0\x0dIHDR":
        raise ImageHeaderError("the PNG does not begin with its header")
    depth, colour, compression, filtering, interlace = _bytes_at(data, 24, 5)
    if depth not in _PNG_COLOUR_DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise ImageHeaderError("the PNG's header is not valid")
    return ImageInfo("PNG", _big(data, 16, 4), _big(data, 20, 4), _png_frames(data))


def _png_frames(data: bytes) -> int | None:
    """Return the frames of an animated PNG, 1 for a plain one, None where the header goes on."""
    position = 33
    for _ in range(_MOST_PNG_CHUNKS):
        name = data[position + 4 : position + 8]
        if name == b"acTL":
            return max(1, _big(data, position + 8, 4))
        if name in (b"IDAT", b"IEND", b""):
            return 1
        position += 12 + _big(data, position, 4)
    return None


# ---------------------------------------------------------------- WebP


def _read_webp(data: bytes) -> ImageInfo:
    form = _bytes_at(data, 12, 4)
    if form == b"VP8 ":
        return _webp_lossy(data)
    if form == b"VP8L":
        return _webp_lossless(data)
    if form == b"VP8X":
        is_animated = _big(data, 20, 1) & 0b10
        frames = None if is_animated else 1
        return ImageInfo("WEBP", _little(data, 24, 3) + 1, _little(data, 27, 3) + 1, frames)
    raise ImageHeaderError("the WebP does not begin with an image")


def _webp_lossy(data: bytes) -> ImageInfo:
    is_between_frames = _little(data, 20, 3) & 1
    if is_between_frames or _bytes_at(data, 23, 3) != b"\x9d\x01\x2a":
        raise ImageHeaderError("the WebP's frame header is not valid")
    side = 0x3FFF  # the two bits above are a wish for scaling
    return ImageInfo("WEBP", _little(data, 26, 2) & side, _little(data, 28, 2) & side, 1)


def _webp_lossless(data: bytes) -> ImageInfo:
    bits = _little(data, 21, 4)
    has_version_0 = bits >> 29 == 0
    if _big(data, 20, 1) != 0x2F or not has_version_0:  # noqa: PLR2004 - the signature
        raise ImageHeaderError("the WebP's frame header is not valid")
    return ImageInfo("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1)


# ---------------------------------------------------------------- GIF


def _read_gif(data: bytes) -> ImageInfo:
    """Return the area that screen and first frame take together: decoders enlarge the screen."""
    left, top, width, height = struct.unpack("<4H", _bytes_at(data, _first_gif_frame(data) + 1, 8))
    screen_width, screen_height = _little(data, 6, 2), _little(data, 8, 2)
    if not (screen_width and screen_height and width and height):
        return ImageInfo("GIF", 0, 0, None)
    sides = max(screen_width, left + width), max(screen_height, top + height)
    return ImageInfo("GIF", *sides, None)


def _first_gif_frame(data: bytes) -> int:
    """Return where the first image descriptor begins."""
    packed = _big(data, 10, 1)
    position = 13 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
    is_in_extension = False
    for _ in range(_MOST_GIF_BLOCKS):
        first = _big(data, position, 1)
        if is_in_extension:
            is_in_extension = first != 0
            position += 1 + first
        elif first == _GIF_EXTENSION:
            is_in_extension = True
            position += 2
        elif first == _GIF_FRAME:
            return position
        else:
            break
    raise ImageHeaderError("the GIF has no image")


_Reader = tuple[Callable[[bytes], bool], Callable[[bytes], ImageInfo]]
_READERS: Final[tuple[_Reader, ...]] = (
    (_is_jpeg, _read_jpeg),
    (_is_png, _read_png),
    (_is_webp, _read_webp),
    (_is_gif, _read_gif),
)
