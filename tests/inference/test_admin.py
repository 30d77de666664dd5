"""The pages under /admin/ that ask a node: what is in memory, who waits, loading and unloading."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from msgspec import structs

from inference.messages import (
    Load,
    LoadedModel,
    Priority,
    QueueEntry,
    Unload,
)
from models_app.models import Tag, User
from models_app.permissions import SiteRole
from tests.fakes.engine import FakeNode
from tests.models_app.admin_pages import HOME, address_of, staff, text_of
from tests.models_app.people_cast import recorded

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator(transactional_db: None) -> User:
    return staff("olga", SiteRole.OPERATOR)


async def browser_of(user: User) -> AsyncClient:
    client = AsyncClient(headers={"accept": "text/html"})
    await client.aforce_login(user)
    return client


async def the_tag() -> Tag:
    rows = Tag.objects.select_related("manifest", "model")
    return await rows.aget()


def in_memory(node: FakeNode, tag: Tag, name: str) -> None:
    node.loaded[tag.manifest.digest] = LoadedModel(
        name=name,
        digest=tag.manifest.digest,
        size_bytes=209_505_483,
        size_vram_bytes=0,
        context_length=4096,
        expires_in_s=272.0,
    )


async def test_models_are_loaded_and_unloaded(node: FakeNode, model: str, operator: User) -> None:
    browser, tag = await browser_of(operator), await the_tag()
    for act in ("load", "unload"):
        answer: Any = await browser.post(address_of("tag", act, tag))
        assert answer["Location"] == f"{HOME}/tag/{tag.pk}/change/"

    assert [len(node.got(kind)) for kind in (Load, Unload)] == [1, 1]
    assert len(await sync_to_async(recorded)("model.load")) == 1
    assert len(await sync_to_async(recorded)("model.unload")) == 1


async def test_load_says_when_no_node_answers(model: str, operator: User) -> None:
    browser, tag = await browser_of(operator), await the_tag()
    answer: Any = await browser.post(address_of("tag", "load", tag))

    assert answer.status_code == 200
    assert "inference service" in text_of(answer)
    assert await sync_to_async(recorded)("model.load") == []


async def test_list_shows_what_is_in_memory(node: FakeNode, model: str, operator: User) -> None:
    browser, tag = await browser_of(operator), await the_tag()
    before = text_of(await browser.get(f"{HOME}/tag/"))
    in_memory(node, tag, model)

    assert "loaded" not in before.partition("result_list")[2]
    assert "loaded" in text_of(await browser.get(f"{HOME}/tag/")).partition("result_list")[2]


async def test_node_is_shown_with_memory_and_queue(
    node: FakeNode, model: str, bobs_model: str, operator: User
) -> None:
    tag = await Tag.objects.select_related("manifest").aget(model__name="secret")
    in_memory(node, tag, model)
    waiting = QueueEntry(
        request_id="r1",
        model=bobs_model,
        digest=tag.manifest.digest,
        user="bob",
        priority=Priority.API,
        position=1,
        reason="waiting for a slot",
        waited_s=65,
    )
    node.queue = structs.replace(node.queue, entries=(waiting,), running=3, slots=4)
    page = text_of(await (await browser_of(operator)).get("/admin/nodes/"))

    assert "210 MB in memory, 3 of 4 slots busy, 1 waiting" in page
    assert "4,096 tokens" in page
    assert "bob" in page
    assert "private" in page
    assert "bob/secret" not in page
    assert "own words" not in page


async def test_node_that_does_not_answer_is_said_not_to(operator: User) -> None:
    page = text_of(await (await browser_of(operator)).get("/admin/nodes/"))

    assert "does not answer" in page


@pytest.mark.parametrize("act", ["load", "unload"])
async def test_models_are_loaded_one_at_a_time(
    node: FakeNode, model: str, bobs_model: str, operator: User, act: str
) -> None:
    browser = await browser_of(operator)
    tags = [tag async for tag in Tag.objects.all()]
    answer: Any = await browser.post(address_of("tag", act, *tags))

    assert len(tags) > 1
    assert answer.status_code == 404
    assert node.got(Load) == []
    assert node.got(Unload) == []
