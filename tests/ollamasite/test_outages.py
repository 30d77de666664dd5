"""What a library says of Redis, again and again, is one outage; what else it says is heard."""

import asyncio
import logging

import pytest
from redis.exceptions import ConnectionError as RedisAway

from ollamasite import outages

logger = logging.getLogger("channels_redis.pubsub")


def lines(caplog: pytest.LogCaptureFixture, error: BaseException) -> list[str]:
    """Return what is in the log after the library has written of an error twice."""
    quiet = outages.QuietWhileAway()
    logger.addFilter(quiet)
    try:
        for _ in range(2):
            logger.error("something unexpected", exc_info=error)
    finally:
        logger.removeFilter(quiet)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("error", [RedisAway("gone"), ConnectionRefusedError("gone")])
def test_redis_that_is_away_is_told_of_once(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    [line] = lines(caplog, error)
    assert line.startswith("Redis does not answer")


def test_whoever_is_told_to_stop_while_leaving_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert lines(caplog, asyncio.CancelledError()) == []


def test_anything_else_is_heard_each_time(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, ValueError("x")) == ["something unexpected"] * 2
