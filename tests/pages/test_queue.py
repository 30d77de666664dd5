"""The page of the queue, as the server writes it."""

import html
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.test import AsyncClient, Client
from pytest_django import DjangoAssertNumQueries, Settings

from inference.fleet import engine_fleet
from inference.messages import Priority, QueueEntry, QueueState, RunningEntry
from models_app.accounts import create_user
from models_app.models import User
from models_app.permissions import SiteRole
from tests.fakes.engine import FakeNode, running_node
from tests.models_app.people_cast import recorded
from tests.pages.catalogue import PASSWORD, STARTER, add_model

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def node(settings: Settings) -> AsyncIterator[FakeNode]:
    async with running_node() as fake:
        settings.ENGINE_SOCKET = fake.socket_path
        yield fake
        engine_fleet(django_settings.ENGINE_SOCKET).close()


@pytest.fixture
async def starter(transactional_db: None) -> str:
    return await sync_to_async(add_model)(STARTER)


@pytest.fixture
async def as_bob(transactional_db: None) -> AsyncClient:
    return await browser_of(await sync_to_async(create_user)("bob", PASSWORD))


@pytest.fixture
async def as_olga(transactional_db: None) -> AsyncClient:
    """Somebody who looks after the nodes."""
    olga = await sync_to_async(create_user)("olga", PASSWORD)
    await User.objects.filter(pk=olga.pk).aupdate(site_role=SiteRole.OPERATOR)
    return await browser_of(await User.objects.aget(pk=olga.pk))


async def browser_of(user: User) -> AsyncClient:
    client = AsyncClient(headers={"accept": "text/html"})
    await client.aforce_login(user)
    return client


def waiting(user: str, position: int, digest: str = "d" * 64, **changes: Any) -> QueueEntry:
    fields: dict[str, Any] = {
        "request_id": f"wait{position}",
        "model": STARTER,
        "digest": digest,
        "user": user,
        "priority": Priority.API,
        "position": position,
        "reason": "waiting for a slot",
        "waited_s": 65.0,
        "estimate_s": 3.25,
    }
    return QueueEntry(**(fields | changes))


def running(user: str, digest: str = "d" * 64, **changes: Any) -> RunningEntry:
    fields: dict[str, Any] = {
        "request_id": f"run{user}",
        "model": STARTER,
        "digest": digest,
        "user": user,
        "priority": Priority.API,
        "age_s": 12.0,
        "completion_tokens": 1084,
        "tokens_per_s": 21.54,
    }
    return RunningEntry(**(fields | changes))


def tell(node: FakeNode, *entries: QueueEntry, on_slots: tuple[RunningEntry, ...] = ()) -> None:
    node.queue = QueueState(
        request_id="", entries=entries, running=len(on_slots), slots=4, on_slots=on_slots
    )


async def shown(client: AsyncClient, **headers: str) -> str:
    answer = await client.get("/queue", headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def words_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_stranger_is_sent_to_the_sign_in_page(browser: Client, db: None) -> None:
    assert browser.get("/queue")["Location"] == "/signin?next=%2Fqueue"


async def test_idle_queue_says_what_to_do_next(node: FakeNode, as_bob: AsyncClient) -> None:
    words = words_of(await shown(as_bob))

    assert "Nothing runs and nothing waits" in words
    assert "the lines of code from the home page" in words


async def test_engine_that_is_away_is_told_and_the_page_is_there(
    as_bob: AsyncClient, settings: Settings
) -> None:
    settings.ENGINE_SOCKET = settings.RUN_DIR / "nobody.sock"

    assert "is not answering right now" in words_of(await shown(as_bob))


async def test_own_requests_are_told_in_full(
    node: FakeNode, starter: str, as_bob: AsyncClient
) -> None:
    mine = running("bob", starter, key_name="nightly (abc)")
    tell(node, waiting("bob", 2, starter), on_slots=(mine,))
    words = words_of(await shown(as_bob))

    assert f"{STARTER} 1 running, 1 waiting" in words
    assert "Running You with nightly (abc) 12 s 1,084 tokens 22/s" in words
    assert "Place 2 all places are taken You on this site 1 min 5 s starts in about 3 s" in words


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("loading", "the model is being loaded"),
        ("waiting for memory", "another model has to leave memory first"),
        ("paused", "paused for somebody who had less"),
        ("something new", "something new"),
    ],
)
async def test_reason_is_told_in_words(
    node: FakeNode, as_bob: AsyncClient, reason: str, told: str
) -> None:
    tell(node, waiting("bob", 1, reason=reason, estimate_s=None))
    words = words_of(await shown(as_bob))

    assert told in words
    assert "not known yet" in words


async def test_others_are_there_without_a_name(
    node: FakeNode, starter: str, as_bob: AsyncClient
) -> None:
    theirs = running("mallory", starter, key_name="secret plan (abc)")
    tell(node, waiting("mallory", 1, starter), on_slots=(theirs,))
    page = await shown(as_bob)

    assert "Running Somebody else 12 s not told" in words_of(page)
    assert "Place 1 all places are taken Somebody else 1 min 5 s" in words_of(page)
    for secret in ("mallory", "secret plan", "runmallory", "wait1", "1,084"):
        assert secret not in page
    assert "/cancel" not in page


async def test_models_that_one_may_not_know_are_told_as_one_group(
    node: FakeNode, as_bob: AsyncClient
) -> None:
    tell(
        node,
        waiting("mallory", 1, "e" * 64, model="mallory/plan:latest"),
        on_slots=(running("mallory", "f" * 64, model="mallory/other:latest"),),
    )
    page = await shown(as_bob)

    assert "Models that you cannot use 1 running, 1 waiting" in words_of(page)
    assert "mallory" not in page


async def test_operator_sees_whose_requests_they_are_and_may_cancel_them(
    node: FakeNode, starter: str, as_olga: AsyncClient
) -> None:
    tell(node, on_slots=(running("bob", starter, key_name="nightly (abc)"),))
    page = await shown(as_olga)

    assert "Running bob 12 s 1,084 tokens" in words_of(page)
    assert "nightly" not in page
    assert 'action="/queue/runbob/cancel"' in page


async def test_models_with_own_requests_come_first(
    node: FakeNode, starter: str, as_bob: AsyncClient
) -> None:
    other = await sync_to_async(add_model)("aardvark:latest")
    tell(node, waiting("mallory", 1, other), waiting("bob", 2, starter))
    words = words_of(await shown(as_bob))

    assert words.index(STARTER) < words.index("aardvark:latest")


async def test_part_that_changes_is_answered_alone(node: FakeNode, as_bob: AsyncClient) -> None:
    part = await shown(as_bob, **{"hx-request": "true"})

    assert "Nothing runs and nothing waits" in part
    assert "<html" not in part


async def test_names_are_escaped(node: FakeNode, as_bob: AsyncClient) -> None:
    evil = "<script>alert(1)</script>"
    tell(node, on_slots=(running("bob", model=evil, key_name=evil),))
    page = await shown(as_bob)

    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") == 4


@pytest.mark.parametrize("count", [1, 40])
def test_number_of_queries_does_not_grow_with_the_models(
    browser: Client, bob: User, count: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    browser.force_login(bob)
    for number in range(count):
        add_model(f"model-{number}:latest")
    browser.get("/queue")  # the session's first page writes when it was last used
    with django_assert_num_queries(5):  # session, user, teams, models, aliases
        browser.get("/queue")


async def test_cancelling_is_asked_about_first_where_there_is_no_script(
    node: FakeNode, as_bob: AsyncClient
) -> None:
    tell(node, waiting("bob", 1))
    answer = await as_bob.post("/queue/wait1/cancel")

    assert f"You, on this site: {STARTER}" in words_of(answer.content.decode())
    assert 'name="confirmed" value="yes"' in answer.content.decode()
    assert len(node.queue.entries) == 1


@pytest.mark.parametrize("request_id", ["wait1", "runbob"])
async def test_own_request_is_cancelled(
    node: FakeNode, as_bob: AsyncClient, request_id: str
) -> None:
    tell(node, waiting("bob", 1), on_slots=(running("bob"),))
    answer: Any = await as_bob.post(f"/queue/{request_id}/cancel", {"confirmed": "yes"})

    assert answer["Location"] == "/queue"
    assert "The request is cancelled." in words_of(await shown(as_bob))
    assert len(node.queue.entries) + len(node.queue.on_slots) == 1
    assert await sync_to_async(recorded)("request.cancel") == []


@pytest.mark.parametrize("fields", [{}, {"confirmed": "yes"}])
async def test_somebody_elses_request_is_like_one_that_is_not_there(
    node: FakeNode, as_bob: AsyncClient, fields: dict[str, str]
) -> None:
    tell(node, waiting("mallory", 1))
    there = await as_bob.post("/queue/wait1/cancel", fields)
    nowhere = await as_bob.post("/queue/nothing/cancel", fields)

    assert (there.status_code, nowhere.status_code) == (404, 404)
    assert words_of(there.content.decode()) == words_of(nowhere.content.decode())
    assert len(node.queue.entries) == 1


async def test_operator_cancels_for_others_and_it_is_recorded(
    node: FakeNode, as_olga: AsyncClient
) -> None:
    tell(node, waiting("bob", 1))
    await as_olga.post("/queue/wait1/cancel", {"confirmed": "yes"})

    assert node.queue.entries == ()
    assert await sync_to_async(recorded)("request.cancel") == [("olga", "bob")]


async def test_request_is_not_cancelled_by_looking(node: FakeNode, as_bob: AsyncClient) -> None:
    tell(node, waiting("bob", 1))
    answer = await as_bob.get("/queue/wait1/cancel")

    assert answer.status_code == 405
    assert len(node.queue.entries) == 1
