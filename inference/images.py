"""The images of a request, checked before anything decodes them.

Limits and formats are `inference.image_headers`'; here they become errors that a client is told
about. Knows no model and no pixels.
"""

from collections.abc import Sequence
from typing import Final

from inference import image_headers
from inference.errors import InvalidImage
from inference.image_headers import ImageHeaderError, ImageInfo

MAX_IMAGES: Final = 16  # of one request


def read_header(data: bytes) -> ImageInfo:
    """Return what an image file says of itself. Raises InvalidImage."""
    try:
        return image_headers.read_header(data)
    except ImageHeaderError as error:
        raise InvalidImage(str(error)) from error


def check_images(images: Sequence[bytes]) -> None:
    """Refuse a request's images if there are too many or one cannot be taken: InvalidImage."""
    if len(images) > MAX_IMAGES:
        raise InvalidImage(f"the request has {len(images)} images; {MAX_IMAGES} are the most")
    for image in images:
        read_header(image)
