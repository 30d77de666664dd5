"""Reading bodies: a large one does not stop everybody else's streams."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from django.test import RequestFactory

from inference.api.schemas import ChatBody
from ollamasite.api_views import NATIVE_EMPTY_BODY, read_body, work_through

BESIDE_S = 0.005


def posted(body: bytes) -> Any:
    return SimpleNamespace(_request=RequestFactory().post("/", body, "application/json"))


async def turns_beside(body: bytes) -> tuple[ChatBody, int]:
    """Read a body; return it and how often something else had its turn meanwhile."""
    turns = 0

    async def beside() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(BESIDE_S)
            turns += 1

    task = asyncio.create_task(beside())
    await asyncio.sleep(0)
    read = await read_body(posted(body), ChatBody, "ChatRequest", empty_message=NATIVE_EMPTY_BODY)
    task.cancel()
    return read, turns


async def test_others_have_their_turn_while_a_large_body_is_read() -> None:
    messages = b",".join([b"{}"] * 300_000)
    read, turns = await turns_beside(b'{"messages":[' + messages + b"]}")
    assert len(read.messages) == 300_000
    assert turns >= 5


async def test_a_small_body_is_read_at_once() -> None:
    read, turns = await turns_beside(b'{"messages":[{"role":"user"}]}')
    assert [message.role for message in read.messages] == ["user"]
    assert turns == 0


async def test_large_body_is_walked_through_on_another_thread() -> None:
    here = threading.get_ident()

    assert await work_through(posted(b"{}"), threading.get_ident) == here
    assert await work_through(posted(b" " * 100_000), threading.get_ident) != here
