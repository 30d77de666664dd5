"""News about jobs over the channel layer: wake-ups for those who wait, which say whose job it is.

What has changed is read from the rows, and everybody who waits looks there every now and then: a
message that is lost costs only time. A layer that does not answer is told of once. Knows no row.
"""

import asyncio
import contextlib
import time
from typing import Any, Final, Self

from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from redis.exceptions import RedisError

from ollamasite import outages

_FAILURES: Final = (RedisError, OSError, TimeoutError, ChannelFull)
_SEND_TIMEOUT_S: Final = 1.0
_PAUSE_S: Final = 10.0
# The group of those who look at the jobs of many.
EVERYBODY: Final = "jobs"


def job_group(job_id: str) -> str:
    """Return the group of those who follow one job."""
    return f"job-{job_id}"


class Sender:
    """Tells of changes from one thread without an event loop; a context manager."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._quiet_until_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._runner.close()

    def tell(self, job_id: str, owner_id: int | None) -> None:
        """Wake up whoever follows the job or looks at its owner's jobs."""
        if time.monotonic() < self._quiet_until_s:
            return
        try:
            self._runner.run(_send(job_id, owner_id))
        except _FAILURES as error:
            self._quiet_until_s = time.monotonic() + _PAUSE_S
            outages.redis.begins(error)
        else:
            outages.redis.ends()


def tell(job_id: str, owner_id: int | None) -> None:
    """Tell of one change, from a thread without an event loop."""
    with Sender() as sender:
        sender.tell(job_id, owner_id)


class Listener:
    """Waits for news of a group, on an event loop; an async context manager.

    async with Listener(job_group(job_id)) as news:
        await news.wait(0.25)
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._layer: Any = get_channel_layer()
        self._channel = ""
        self._receiving: asyncio.Task[Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a layer from which news may come."""
        return self._layer is not None

    async def __aenter__(self) -> Self:
        if self._layer is not None:
            try:
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    self._channel = await self._layer.new_channel()
                    await self._layer.group_add(self._group, self._channel)
            except _FAILURES as error:
                self._give_up(error)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the group."""
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait([self._receiving])
        if self._layer is not None:
            with contextlib.suppress(*_FAILURES):
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    await self._layer.group_discard(self._group, self._channel)

    async def wait(self, timeout_s: float) -> int | None:
        """Return when there are news, at the latest after the timeout; whose job it is about.

        None: nobody's, or there are none.
        """
        if self._layer is None:
            await asyncio.sleep(timeout_s)
            return None
        # A layer forgets a channel whose receiving was cancelled: one goes on over many waits.
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._layer.receive(self._channel))
        done, _ = await asyncio.wait([self._receiving], timeout=timeout_s)
        if not done:
            return None
        received, self._receiving = self._receiving, None
        failure = received.exception()
        if failure is not None:
            self._give_up(failure)
            return None
        outages.redis.ends()
        owner_id: int | None = received.result().get("owner_id")
        return owner_id

    def _give_up(self, error: BaseException) -> None:
        self._layer = None
        outages.redis.begins(error)


async def _send(job_id: str, owner_id: int | None) -> None:
    layer: Any = get_channel_layer()
    if layer is None:
        return
    news = {"type": "job.changed", "job_id": job_id, "owner_id": owner_id}
    groups = [job_group(job_id)] + ([] if owner_id is None else [EVERYBODY])
    async with asyncio.timeout(_SEND_TIMEOUT_S):
        for group in groups:
            await layer.group_send(group, news)
