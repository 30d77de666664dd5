"""Whoever looks whether access has ended goes on looking, whatever happens to one look."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app import people
from models_app.access_watch import watch
from models_app.models import User
from tests.conftest import principal_for


async def test_look_that_fails_is_not_the_last(
    transactional_db: None, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    principal = principal_for(alice)
    nonsense: Any = "nobody"  # no id: the question about it cannot even be asked
    ended = asyncio.Event()
    with caplog.at_level(logging.ERROR):
        broken = watch(replace(principal, user_id=nonsense), lambda: None)
        watch(principal, ended.set)
        async with asyncio.timeout(30):
            while "could not be asked" not in caplog.text:
                await asyncio.sleep(0.01)
    assert not ended.is_set()

    broken.close()
    await sync_to_async(people.deactivate)("alice", by=None)
    async with asyncio.timeout(30):
        await ended.wait()
