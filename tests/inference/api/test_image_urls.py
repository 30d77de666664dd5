"""Images by URL: off at first, then fetched through the guarded client, with one text for no."""

import asyncio
import time
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from inference.api import image_urls
from inference.api.image_urls import fetch_images
from inference.image_headers import MAX_FILE_BYTES
from inference.messages import Generate
from ollamasite.errors import BadRequest
from registry import manifests
from tests.conftest import MakeModel
from tests.fakes.engine import FakeNode
from tests.fakes.http import AsgiClient
from tests.fakes.peer import Asked, answer, head, peer, redirect
from tests.limited import SetLimits, redis_socket, redis_url, set_limits
from tests.model_layers import add_layer
from tests.vision_files import write_image

__all__ = ["redis_socket", "redis_url", "set_limits"]

HERE = "127.0.0.1"


@pytest.fixture
def picture() -> bytes:
    """A PNG file."""
    return write_image("PNG")


@pytest.fixture
def allow(settings: Settings) -> None:
    """A site whose admin has named this machine, at every port the test asks for."""
    settings.PRIVATE_HOSTS = [HERE]


async def test_no_urls_are_no_images() -> None:
    assert await fetch_images([]) == {}


async def test_image_urls_are_refused_where_no_host_is_named() -> None:
    with pytest.raises(BadRequest, match=r"^image URLs are not currently supported, ") as refusal:
        await fetch_images(["https://a.example/x.png"], param="input")

    assert refusal.value.param == "input"


@pytest.mark.usefixtures("allow")
async def test_images_are_returned_by_their_urls(settings: Settings, picture: bytes) -> None:
    async with peer(answer(picture)) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        first, second = one.url("/a", host=HERE), one.url("/b", host=HERE)
        images = await fetch_images([first, second, first])

    assert images == {first: picture, second: picture}
    assert sorted(asked.path for asked in one.asked) == ["/a", "/b"]


@pytest.mark.usefixtures("allow")
async def test_images_are_fetched_at_the_same_time(settings: Settings, picture: bytes) -> None:
    everybody = asyncio.Barrier(16)

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await everybody.wait()
        await answer(picture)(asked, writer)

    async with peer(reply) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        urls = [one.url(f"/{number}", host=HERE) for number in range(16)]
        assert len(await fetch_images(urls)) == 16


async def test_more_urls_than_a_request_may_have_are_refused(settings: Settings) -> None:
    settings.IMAGE_HOSTS = ["*"]

    with pytest.raises(BadRequest, match="17 image URLs; 16 are the most"):
        await fetch_images(f"https://a.example/{number}" for number in range(17))


async def test_host_that_is_not_named_is_refused(settings: Settings) -> None:
    settings.IMAGE_HOSTS = ["a.example"]

    with pytest.raises(BadRequest, match=r"from the host of 'https://b\.example/x\.png'"):
        await fetch_images(["https://b.example/x.png"])


@pytest.mark.parametrize("url", ["https://a@b.example/", "https:\\\\a", "ftp://a.example/x", "x"])
async def test_text_that_is_no_usable_url_is_refused(settings: Settings, url: str) -> None:
    settings.IMAGE_HOSTS = ["*"]

    with pytest.raises(BadRequest, match=r"^image URL: "):
        await fetch_images([url])


async def test_answer_is_the_same_whether_an_address_is_refused_or_nobody_answers(
    settings: Settings, picture: bytes
) -> None:
    async with peer(answer(picture)) as inside:
        port = inside.port
        settings.IMAGE_HOSTS = ["http://*"]
        with pytest.raises(BadRequest) as refused:
            await fetch_images([f"http://{HERE}:{port}/x"])
    settings.IMAGE_HOSTS, settings.PRIVATE_HOSTS = [f"http://{HERE}:{port}"], [HERE]
    with pytest.raises(BadRequest) as unreachable:
        await fetch_images([f"http://{HERE}:{port}/x"])

    assert inside.asked == []
    assert refused.value.message == unreachable.value.message
    assert refused.value.message == f"the image at 'http://{HERE}:{port}/x' could not be fetched"


@pytest.mark.usefixtures("allow")
async def test_redirect_to_the_inside_tells_nothing_of_what_is_there(
    settings: Settings, picture: bytes
) -> None:
    async with (
        peer(answer(picture)) as inside,
        peer(redirect(inside.url(host="localhost"))) as one,
    ):
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}", "http://*"]
        with pytest.raises(BadRequest, match=r"could not be fetched$"):
            await fetch_images([one.url(host=HERE)])

    assert inside.asked == []


@pytest.mark.usefixtures("allow")
@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"<html>secret</html>", 200, "cannot be used as an image: unsupported image format"),
        (b"", 200, "cannot be used as an image: the image is empty"),
        (b"secret", 404, "could not be fetched$"),
        (b"secret", 500, "could not be fetched$"),
    ],
)
async def test_what_is_no_image_is_refused_without_its_content(
    settings: Settings, body: bytes, status: int, why: str
) -> None:
    async with peer(answer(body, status=status)) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        with pytest.raises(BadRequest, match=why) as refusal:
            await fetch_images([one.url(host=HERE)])

    assert "secret" not in refusal.value.message


@pytest.mark.usefixtures("allow")
async def test_image_that_is_too_large_is_refused(settings: Settings) -> None:
    reply = answer(headers={"Content-Length": str(MAX_FILE_BYTES + 1)})
    async with peer(reply) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        with pytest.raises(BadRequest, match=r"is too large$"):
            await fetch_images([one.url(host=HERE)])


@pytest.mark.usefixtures("allow")
async def test_images_together_may_take_no_more_than_a_body(
    settings: Settings, picture: bytes
) -> None:
    settings.MAX_BODY_BYTES = len(picture) * 3
    async with peer(answer(picture)) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        urls = [one.url(f"/{number}", host=HERE) for number in range(4)]
        with pytest.raises(BadRequest, match=r"is too large$"):
            await fetch_images(urls)
        assert len(await fetch_images(urls[:3])) == 3


@pytest.mark.usefixtures("allow")
async def test_slow_image_is_given_up_in_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_urls, "FETCH_TIMEOUT_S", 0.3)

    async def drip(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(head(200, {"Content-Length": "1000"}))
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with peer(drip) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        began = time.monotonic()
        with pytest.raises(BadRequest, match=r"could not be fetched$"):
            await fetch_images([one.url(host=HERE)])

    assert time.monotonic() - began < 20


# ---------------------------------------------------------------- through the route


def chat_about(url: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return {"messages": [{"role": "user", "content": [part]}]}


@pytest.fixture
def seeing(transactional_db: None, make_model: MakeModel) -> str:
    """A model that takes images."""
    name = make_model("seeing")
    add_layer(name, manifests.PROJECTOR, b"a projector")
    return name


@pytest.mark.usefixtures("allow")
async def test_image_of_a_url_reaches_the_engine(
    node: FakeNode, seeing: str, api: AsgiClient, settings: Settings, picture: bytes
) -> None:
    async with peer(answer(picture)) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        body = {"model": seeing, **chat_about(one.url("/x.png", host=HERE))}
        answered = await api.post("/v1/chat/completions", body)
    prompt: Any = (await node.wait_for(Generate)).prompt

    assert answered.status == 200
    assert [image for message in prompt.messages for image in message.images] == [picture]


async def test_refusal_of_a_url_names_the_field(
    node: FakeNode, seeing: str, api: AsgiClient, settings: Settings
) -> None:
    settings.IMAGE_HOSTS = ["http://*"]
    body = {"model": seeing, **chat_about("http://169.254.169.254/latest")}
    answered = await api.post("/v1/chat/completions", body)

    assert (answered.status, answered.json()["error"]) == (
        400,
        {
            "message": "the image at 'http://169.254.169.254/latest' could not be fetched",
            "type": "invalid_request_error",
            "param": "messages",
            "code": None,
        },
    )
    assert node.got(Generate) == []


def ways_to_ask(model: str, url: str) -> list[tuple[str, dict[str, Any]]]:
    """Return every route that takes images by URL, with a body that has one."""
    source = {"type": "image", "source": {"type": "url", "url": url}}
    turn = [{"role": "user", "content": [source]}]
    item = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
    return [
        ("/v1/chat/completions", {"model": model, **chat_about(url)}),
        ("/v1/responses", {"model": model, "input": [item]}),
        ("/v1/responses/input_tokens", {"model": model, "input": [item]}),
        ("/v1/messages", {"model": model, "max_tokens": 5, "messages": turn}),
        ("/v1/messages/count_tokens", {"model": model, "messages": turn}),
    ]


@pytest.mark.usefixtures("allow", "node")
async def test_nothing_is_fetched_for_a_model_that_one_may_not_use(
    model: str, api: AsgiClient, settings: Settings, picture: bytes
) -> None:
    async with peer(answer(picture)) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        for name, status in (("bob/secret", 404), (model, 400)):  # the other one is blind
            for path, body in ways_to_ask(name, one.url("/x.png", host=HERE)):
                answered = await api.post(path, body)
                assert answered.status == status, (path, answered.text)
        assert one.asked == []


@pytest.mark.usefixtures("allow", "node")
async def test_nothing_is_fetched_for_whose_limits_are_reached(
    seeing: str,
    api: AsgiClient,
    settings: Settings,
    picture: bytes,
    set_limits: SetLimits,
) -> None:
    set_limits(requests=1)
    async with peer(answer(picture)) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        await api.post("/api/chat", {"model": seeing, "messages": [], "stream": False})
        for path, body in ways_to_ask(seeing, one.url("/x.png", host=HERE)):
            assert (await api.post(path, body)).status == 429, path
        assert one.asked == []


@pytest.mark.usefixtures("allow", "node")
async def test_request_whose_image_does_not_come_is_not_counted(
    seeing: str, api: AsgiClient, settings: Settings, set_limits: SetLimits
) -> None:
    set_limits(requests=1)
    async with peer(answer(status=404)) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        for path, body in ways_to_ask(seeing, one.url("/x.png", host=HERE)):
            answered = await api.post(path, body)
            assert (answered.status, "could not be fetched" in answered.text) == (400, True), path


@pytest.mark.usefixtures("allow")
async def test_images_of_every_dialect_reach_the_engine(
    node: FakeNode, seeing: str, api: AsgiClient, settings: Settings, picture: bytes
) -> None:
    async with peer(answer(picture)) as one:
        settings.IMAGE_HOSTS = [f"http://{HERE}:{one.port}"]
        for path, body in ways_to_ask(seeing, one.url("/x.png", host=HERE)):
            await api.post(path, body)
    asked: list[Any] = [generate.prompt for generate in node.got(Generate)]

    assert [
        [image for message in prompt.messages for image in message.images] for prompt in asked
    ] == 5 * [[picture]]
