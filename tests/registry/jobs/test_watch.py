"""Following jobs: what is seen, and what becomes of a job when those who watch it leave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import OperationalError
from django.utils import timezone

from models_app import jobs
from models_app.jobs import JobRecord, JobState
from models_app.models import Job, JobWatcher, User
from ollamasite import outages
from registry.jobs import notices, submit, watch
from registry.jobs.notices import Listener
from registry.jobs.watch import follow
from tests.conftest import principal_for
from tests.limited import redis_socket, redis_url
from tests.registry.jobs.conftest import WAIT_S, Script, add

__all__ = ["redis_socket", "redis_url"]

in_thread = sync_to_async
pytestmark = pytest.mark.usefixtures("script")


@asynccontextmanager
async def watching(job: JobRecord, *, is_starter: bool = True) -> AsyncIterator[Any]:
    """Follow a job, up to its first record; leaves at the end of the block."""
    async with aclosing(follow(job.job_id, is_starter=is_starter)) as records:
        await anext(records)
        yield records


async def new_job(user: User, **more: Any) -> JobRecord:
    return await in_thread(add)(principal_for(user), "m", **more)


async def state_of(job: JobRecord) -> JobState:
    found = await in_thread(jobs.read_job)(job.job_id)
    assert found is not None
    return found.state


def layer() -> Any:
    return get_channel_layer()


async def watchers() -> int:
    return await in_thread(JobWatcher.objects.count)()


@pytest.mark.usefixtures("worker")
async def test_job_is_followed_to_its_end(script: Script, alice: User) -> None:
    script.may_end.set()
    job = await new_job(alice)
    async with asyncio.timeout(WAIT_S), aclosing(follow(job.job_id, is_starter=True)) as records:
        seen = [record async for record in records]

    assert seen[-1].state == JobState.SUCCEEDED
    assert [event["status"] for event in seen[-1].events] == ["begun", "success"]
    versions = [record.version for record in seen]
    assert versions == sorted(set(versions))
    assert await watchers() == 0


async def test_job_that_has_ended_is_seen_once(script: Script, alice: User) -> None:
    job = await new_job(alice)
    await in_thread(script.run_one)()

    async with aclosing(follow(job.job_id, is_starter=False)) as records:
        assert [record.state async for record in records] == [JobState.SUCCEEDED]


async def test_job_that_is_gone_shows_nothing() -> None:
    async with aclosing(follow("0" * 32, is_starter=True)) as records:
        assert [record async for record in records] == []


async def test_starter_who_leaves_alone_cancels(alice: User) -> None:
    job = await new_job(alice)
    async with watching(job):
        assert await watchers() == 1

    assert await state_of(job) == JobState.CANCELLED


async def test_job_goes_on_while_another_watches(alice: User) -> None:
    job = await new_job(alice)
    async with watching(job, is_starter=False):
        async with watching(job):
            pass
        assert await state_of(job) == JobState.QUEUED

    assert await state_of(job) == JobState.QUEUED


async def test_last_of_those_who_asked_cancels(alice: User) -> None:
    job = await new_job(alice)
    async with watching(job):
        async with watching(job):
            pass
        assert await state_of(job) == JobState.QUEUED

    assert await state_of(job) == JobState.CANCELLED


async def test_who_only_looks_cancels_nothing(alice: User) -> None:
    job = await new_job(alice)
    async with watching(job, is_starter=False):
        pass

    assert await state_of(job) == JobState.QUEUED


async def test_detached_job_goes_on(alice: User) -> None:
    job = await new_job(alice, is_detached=True)
    async with watching(job):
        pass

    assert await state_of(job) == JobState.QUEUED


async def test_watcher_whose_process_was_killed_keeps_nothing_alive(alice: User) -> None:
    job = await new_job(alice)
    async with watching(job):
        old = timezone.now() - timedelta(seconds=16)
        row = await Job.objects.aget(job_id=job.job_id)
        await JobWatcher.objects.acreate(job=row, watcher_id="gone", seen_at=old)

    assert await state_of(job) == JobState.CANCELLED


async def test_who_shares_keeps_the_job_before_they_look(alice: User) -> None:
    job = await new_job(alice, share="m")
    async with watching(job):
        await new_job(alice, share="m")
    assert await state_of(job) == JobState.QUEUED

    async with watching(job):
        pass
    assert await state_of(job) == JobState.CANCELLED


async def test_requests_that_the_site_closes_cancel_nothing(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await new_job(alice)
    monkeypatch.setitem(watch._site, "is_stopping", False)
    async with watching(job):
        watch.site_stops()

    assert await state_of(job) == JobState.QUEUED
    assert await watchers() == 0


async def test_request_that_is_cancelled_leaves(alice: User) -> None:
    job = await new_job(alice)
    has_begun = asyncio.Event()

    async def serve() -> None:
        async with watching(job) as records:
            has_begun.set()
            await anext(records)

    task = asyncio.create_task(serve())
    await has_begun.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert await state_of(job) == JobState.CANCELLED


async def test_cancelling_is_seen(alice: User) -> None:
    job = await new_job(alice)
    async with asyncio.timeout(WAIT_S), watching(job) as records:
        await in_thread(submit.cancel)(principal_for(alice), job.job_id)

        assert (await anext(records)).state == JobState.CANCELLED


async def test_news_wake_up_before_the_time_is_over() -> None:
    async with asyncio.timeout(WAIT_S), Listener("jobs-1") as news:
        for _ in range(2):
            await layer().group_send("jobs-1", {"type": "job.changed"})
            await news.wait(60)


async def test_layer_that_is_away_is_logged_once_and_waited_for_by_the_clock(
    settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["unix:///nowhere/redis.sock"]},
        }
    }
    monkeypatch.setattr(outages.redis, "_began_s", None)
    async with asyncio.timeout(WAIT_S):
        for _ in range(2):
            async with Listener("jobs-1") as news:
                await news.wait(0.01)
            await in_thread(notices.tell)("a", 1)

    assert caplog.text.count("does not answer") == 1


async def test_news_come_over_redis(
    settings: Any,
    redis_url: str,
) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_url]},
        }
    }
    async with asyncio.timeout(WAIT_S), Listener(notices.job_group("a")) as news:
        await in_thread(notices.tell)("a", None)
        await news.wait(60)
    await layer().flush()


async def test_database_that_is_away_cancels_nothing(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await new_job(alice)

    def fail(job_id: str) -> int:
        raise OperationalError(job_id)

    with pytest.raises(OperationalError):
        async with watching(job) as records:
            monkeypatch.setattr(jobs, "read_version", fail)
            await anext(records)

    assert await state_of(job) == JobState.QUEUED
    assert await watchers() == 0


async def test_client_that_takes_nothing_for_long_is_still_there(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await new_job(alice)
    monkeypatch.setattr(watch, "_SEEN_EVERY_S", 0.01)
    async with watching(job):
        old = timezone.now() - timedelta(seconds=16)
        await in_thread(JobWatcher.objects.update)(seen_at=old)
        async with asyncio.timeout(WAIT_S):
            while await JobWatcher.objects.filter(seen_at=old).aexists():
                await asyncio.sleep(0.01)


async def test_who_asked_keeps_the_job_before_they_look(alice: User) -> None:
    job = await new_job(alice, share="m")
    await new_job(alice, share="m")
    async with watching(job):
        pass

    assert await state_of(job) == JobState.QUEUED


async def test_job_that_is_deleted_while_it_is_followed_ends_the_answer(alice: User) -> None:
    job = await new_job(alice)
    async with asyncio.timeout(WAIT_S), watching(job) as records:
        await in_thread(alice.delete)()

        assert [record async for record in records] == []
