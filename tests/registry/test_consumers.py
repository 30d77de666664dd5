"""`ws/jobs`: who gets in, what is told first, what is told of changes."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from models_app import jobs, principal_cache
from models_app.jobs import JobKind, JobRecord, JobState, NewJob, Snapshot
from models_app.keys import KeyRules, create_key
from models_app.models import Job, User
from models_app.permissions import Scope
from ollamasite.socket_edge import CLOSE_TRY_LATER
from registry import consumers
from registry.jobs import notices
from tests.fakes.websocket import Socket

ORIGIN = (b"origin", b"http://localhost:11434")

Open = Callable[..., Awaitable[Socket]]


@pytest.fixture
async def connect(transactional_db: None) -> AsyncIterator[Open]:
    sockets: list[Socket] = []

    async def make(*headers: tuple[bytes, bytes]) -> Socket:
        socket = Socket(*headers, path="/ws/jobs")
        sockets.append(socket)
        is_accepted, _ = await socket.wire.connect(timeout=20)
        assert is_accepted
        return socket

    yield make
    for socket in sockets:
        # A wait that timed out in the test has cancelled the application already.
        with contextlib.suppress(asyncio.CancelledError):
            await socket.wire.disconnect(timeout=20)


def key_of(user: User, *scopes: Scope) -> tuple[bytes, bytes]:
    _, secret = create_key(user, "key", KeyRules(scopes=scopes or tuple(Scope)))
    return (b"authorization", f"Bearer {secret}".encode())


@pytest.fixture
def cookie(transactional_db: None, alice: User) -> tuple[bytes, bytes]:
    client = Client()
    client.force_login(alice)
    value = client.cookies["ollamasite_session"].value
    return (b"cookie", f"ollamasite_session={value}".encode())


def queued(owner: User) -> JobRecord:
    new = NewJob(
        kind=JobKind.PULL,
        owner_id=owner.pk,
        model_name="tiny:latest",
        share_key=f"{Job.objects.count():064x}",
        arguments="{}",
    )
    made = jobs.add_or_share(new, most_queued=99)
    assert made is not None
    notices.tell(made.job_id, made.owner_id)
    return made


def begin_and_end(owner: User) -> None:
    """Take up the job that waits, and end it well."""
    claimed = jobs.claim_next(most_running=9)
    assert claimed is not None
    notices.tell(claimed.record.job_id, owner.pk)
    event = json.dumps([{"status": "success"}])
    jobs.end_job(claimed.claim, JobState.SUCCEEDED, Snapshot(events=event))
    notices.tell(claimed.record.job_id, owner.pk)


def states_of(messages: list[Any]) -> list[str]:
    assert {message["type"] for message in messages} <= {"job"}
    return [message["job"]["state"] for message in messages]


async def test_jobs_that_have_not_ended_come_first(connect: Open, alice: User, bob: User) -> None:
    await sync_to_async(queued)(alice)
    await sync_to_async(begin_and_end)(alice)
    made = await sync_to_async(queued)(alice)
    await sync_to_async(queued)(bob)
    socket = await connect(await sync_to_async(key_of)(alice))
    first = await socket.receive()
    assert first["type"] == "jobs"
    assert [(job["id"], job["state"]) for job in first["jobs"]] == [(made.job_id, "queued")]


async def test_new_job_and_its_end_are_told(connect: Open, alice: User, bob: User) -> None:
    socket = await connect(await sync_to_async(key_of)(alice))
    assert (await socket.receive())["jobs"] == []
    await sync_to_async(queued)(bob)
    made = await sync_to_async(queued)(alice)
    new = await socket.receive()
    assert (new["type"], new["job"]["id"], new["job"]["state"]) == ("job", made.job_id, "queued")
    await Job.objects.filter(owner=bob).adelete()
    await sync_to_async(begin_and_end)(alice)
    told = [await socket.receive()]
    while told[-1]["job"]["state"] != "succeeded":
        told.append(await socket.receive())
    assert (told[-1]["job"]["id"], told[-1]["job"]["status"]) == (made.job_id, "success")


async def test_many_changes_are_few_messages(connect: Open, alice: User) -> None:
    await sync_to_async(queued)(alice)
    socket = await connect(await sync_to_async(key_of)(alice))
    await socket.receive()
    began_s = time.monotonic()
    claimed = await sync_to_async(jobs.claim_next)(most_running=9)
    assert claimed is not None
    for number in range(60):
        snapshot = Snapshot(total_bytes=60, completed_bytes=number + 1)
        await sync_to_async(jobs.save_progress)(claimed.claim, snapshot)
        await sync_to_async(notices.tell)(claimed.record.job_id, alice.pk)
        await asyncio.sleep(0.01)
    told = [await socket.receive()]
    while told[-1]["job"]["completed"] < 60:
        told.append(await socket.receive())
    pauses = (time.monotonic() - began_s) / consumers._PAUSE_S
    assert len(told) <= pauses + 2, "what changes within a moment is one message"


async def test_one_user_has_not_any_number_of_sockets(
    connect: Open, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "MOST_SOCKETS", 1)
    key = await sync_to_async(key_of)(alice)
    first = await connect(key)
    await first.receive()
    assert await (await connect(key)).close_code() == CLOSE_TRY_LATER
    other = await connect(await sync_to_async(key_of)(bob))
    assert (await other.receive())["type"] == "jobs"
    await first.wire.disconnect(timeout=20)
    assert (await (await connect(key)).receive())["type"] == "jobs"


async def test_lost_news_are_found_in_the_rows(connect: Open, alice: User, settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    socket = await connect(await sync_to_async(key_of)(alice))
    await socket.receive()
    await sync_to_async(queued)(alice)
    assert states_of([await socket.receive()]) == ["queued"]


async def test_frames_of_the_client_are_ignored(connect: Open, alice: User) -> None:
    socket = await connect(await sync_to_async(key_of)(alice))
    await socket.receive()
    await socket.send(type="x")
    await socket.wire.send_to(bytes_data=b"\x00")
    await sync_to_async(queued)(alice)
    assert states_of([await socket.receive()]) == ["queued"]


# ------------------------------------------------------------------ who gets in


async def test_page_of_the_site_gets_in(connect: Open, cookie: tuple[bytes, bytes]) -> None:
    socket = await connect(cookie, ORIGIN)
    assert (await socket.receive())["type"] == "jobs"


async def test_nobody_does_not_get_in(connect: Open) -> None:
    assert await (await connect()).close_code() == 4401


async def test_page_of_another_site_does_not_get_in(
    connect: Open, cookie: tuple[bytes, bytes]
) -> None:
    socket = await connect(cookie, (b"origin", b"http://evil.example"))
    assert await socket.close_code() == 4403


async def test_key_that_may_not_read_does_not_get_in(connect: Open, alice: User) -> None:
    socket = await connect(await sync_to_async(key_of)(alice, Scope.USE))
    assert await socket.close_code() == 4403


async def test_who_is_no_longer_known_is_sent_away(
    connect: Open, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "_ADMIT_EVERY_S", 0.0)
    socket = await connect(await sync_to_async(key_of)(alice))
    await socket.receive()
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
    principal_cache.forget_all()
    assert await socket.close_code() == 4401
