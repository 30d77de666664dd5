"""An image file → pixels, by Pillow. Knows no model; the limits are `inference.image_headers`'.

One decoder for all kinds. llama.cpp's own would also take sound and films, the latter by starting
a program.
"""

import io
import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from inference import image_headers
from inference.engine.model import UnusableInput

Pixels = npt.NDArray[np.uint8]

# Named here so that Pillow never looks for other plugins.
_OPENERS: Final[dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "GIF": GifImagePlugin.GifImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
# What Pillow raises for files that are cut or broken.
_BROKEN: Final = (
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
)


def decode_rgb(data: bytes) -> Pixels:
    """Return an image's pixels, of an animation the first frame's: shape (height, width, 3).

    What is transparent is shown on white. Raises UnusableInput for files that are over the
    limits, of another kind or broken.
    """
    try:
        kind = image_headers.read_header(data).kind
        with _OPENERS[kind](io.BytesIO(data)) as picture:
            image_headers.check_size(*picture.size)
            return np.ascontiguousarray(_rgb(picture))
    except image_headers.ImageHeaderError as error:
        raise UnusableInput(str(error)) from error
    except _BROKEN as error:
        raise UnusableInput("the image cannot be decoded: it is broken or cut short") from error


def reduced(pixels: Pixels, factor: float) -> Pixels:
    """Return an image with its sides multiplied by a factor, one pixel at least."""
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(picture)


def _rgb(picture: Image.Image) -> Pixels:
    picture.load()
    if picture.mode.startswith("I"):  # 16 bits of grey
        grey = np.clip(np.asarray(picture, dtype=np.uint32) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(clear, mask=clear.getchannel("A"))
        return np.asarray(white)
    return np.asarray(picture.convert("RGB"))
