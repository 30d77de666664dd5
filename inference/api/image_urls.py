"""Images that a request names by URL: fetched through the guarded client, where the site allows it.

Off unless OLLAMASITE_IMAGE_HOSTS names hosts. What an answer tells of a failure is the same for an
address that is refused and one where nobody answers, so that nothing can be found out about what
is inside. Nothing is fetched for somebody who may not use the model, or whose limits are reached.
Knows no model and no message.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from django.conf import settings

from inference.image_headers import MAX_FILE_BYTES, ImageHeaderError, read_header
from inference.images import MAX_IMAGES
from inference.requests import ChatRequest
from ollamasite.errors import BadRequest, OutboundFailed, OutboundRefused, OutboundTooLarge
from ollamasite.outbound.client import Answer, Caps, OutboundClient
from ollamasite.outbound.hosts import AllowedHosts
from ollamasite.outbound.urls import parse_url, show_url

FETCH_TIMEOUT_S: Final = 10.0
_CONNECT_TIMEOUT_S: Final = 5.0
_OK: Final = 200
_ACCEPT: Final = {"accept": "image/jpeg, image/png, image/webp, image/gif"}
# A PNG of one grey pixel, up to where its pixels would begin (W3C PNG, 5 and 11.2.1).
_PIXEL: Final = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55")
_PIXELS_FOLLOW: Final = b"\x00\x00\x00\x00IDAT"


async def with_images(
    urls: Iterable[str],
    read: Callable[[Mapping[str, bytes]], Awaitable[ChatRequest]],
    *,
    param: str = "messages",
) -> ChatRequest:
    """Return a request whose images are fetched when it is let in (`complete`).

    `read` makes it out of images by their URLs; until then each has a stand-in, and no two the
    same. Raises BadRequest for URLs that this site fetches nothing from, and what `read` raises.
    """
    wanted = list(dict.fromkeys(urls))
    if not wanted:
        return await read({})
    _check_urls(wanted, param)
    asked = await read({url: _PIXEL + _PIXELS_FOLLOW + url.encode() for url in wanted})

    async def complete() -> ChatRequest:
        return await read(await fetch_images(wanted, param=param))

    return replace(asked, complete=complete)


async def fetch_images(urls: Iterable[str], *, param: str = "messages") -> dict[str, bytes]:
    """Return the images at these URLs, by URL; an empty dict for none.

    All at the same time, within `FETCH_TIMEOUT_S` seconds and together no larger than a request's
    body may be. Raises BadRequest, which names the URL, with `param` as its field.
    """
    wanted = list(dict.fromkeys(urls))
    if not wanted:
        return {}
    hosts = _check_urls(wanted, param)
    caps = Caps(body_bytes=MAX_FILE_BYTES, connect_s=_CONNECT_TIMEOUT_S, total_s=FETCH_TIMEOUT_S)
    budget = _Budget(settings.MAX_BODY_BYTES)
    async with OutboundClient(hosts, caps) as client:
        fetching = (_fetch(client, url, budget, param) for url in wanted)
        # All of them end within their time, so none is left behind when the first has failed.
        fetched = await asyncio.gather(*fetching, return_exceptions=True)
    images: dict[str, bytes] = {}
    for url, image in zip(wanted, fetched, strict=True):
        if isinstance(image, BaseException):
            raise image
        images[url] = image
    return images


def _check_urls(wanted: Sequence[str], param: str) -> AllowedHosts:
    """Return the hosts that may be asked. Raises BadRequest where one of the URLs is another's."""
    if not settings.IMAGE_HOSTS:
        raise BadRequest(
            "image URLs are not currently supported, please use base64 encoded data instead",
            param=param,
        )
    if len(wanted) > MAX_IMAGES:
        message = f"the request has {len(wanted)} image URLs; {MAX_IMAGES} are the most"
        raise BadRequest(message, param=param)
    hosts = AllowedHosts.parse(settings.IMAGE_HOSTS, private=settings.PRIVATE_HOSTS)
    for url in wanted:
        _check_url(hosts, url, param)
    return hosts


class _Budget:
    """How much the images of one request may still take together, in bytes."""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes

    def take(self, size_bytes: int) -> None:
        """Note that so much has come. Raises OutboundTooLarge."""
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise OutboundTooLarge


def _check_url(hosts: AllowedHosts, url: str, param: str) -> None:
    try:
        target = parse_url(url)
    except OutboundRefused as error:
        raise BadRequest(f"image URL: {error.message}", param=param) from error
    if not hosts.permit(*target.origin):
        message = f"this site does not fetch images from the host of {show_url(url)}"
        raise BadRequest(message, param=param)


async def _fetch(client: OutboundClient, url: str, budget: _Budget, param: str) -> bytes:
    try:
        async with client.stream("GET", url, headers=_ACCEPT) as answer:
            image = await _read(answer, budget)
        read_header(image)
    except OutboundTooLarge as error:
        message = f"the image at {show_url(url)} is too large"
        raise BadRequest(message, param=param) from error
    except OutboundFailed as error:
        message = f"the image at {show_url(url)} could not be fetched"
        raise BadRequest(message, param=param) from error
    except ImageHeaderError as error:
        message = f"what is at {show_url(url)} cannot be used as an image: {error}"
        raise BadRequest(message, param=param) from error
    return image


async def _read(answer: Answer, budget: _Budget) -> bytes:
    if answer.status != _OK:
        raise OutboundFailed
    parts: list[bytes] = []
    async for chunk in answer.chunks():
        budget.take(len(chunk))
        parts.append(chunk)
    return b"".join(parts)
