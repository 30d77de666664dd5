"""An answer that runs in this process, as its followers ask for it."""

import asyncio

import pytest
from django.db import OperationalError

from inference.chats import answers
from inference.chats.answers import Answer
from inference.chats.markdown import render_blocks
from models_app import chat_messages
from models_app.chat_messages import NewMessages
from models_app.models import User
from tests.conftest import principal_for


def growing_answer(text: str) -> Answer:
    answer = Answer("m1", owner_id=1, model_name="tiny")
    answer._pieces.append(text)
    return answer


async def test_others_are_served_while_a_large_block_is_rendered() -> None:
    answer = growing_answer("- one of many\n" * 4000)
    rendering = asyncio.create_task(answer.rendered())
    turns = 0
    while not rendering.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns > 10
    assert (await rendering).blocks == render_blocks(answer.text)


async def test_followers_who_ask_together_get_the_same() -> None:
    answer = growing_answer("- one of many\n" * 1000)

    first, second = await asyncio.gather(answer.rendered(), answer.rendered())

    assert first == second
    assert first.blocks == render_blocks(answer.text)


@pytest.mark.django_db
def test_end_of_which_the_database_could_not_tell_is_known(alice: User) -> None:
    owner = principal_for(alice)
    new = NewMessages(role="user", text="Hi", process=answers.PROCESS)
    answer = growing_answer("all of it")
    answer.message_id = chat_messages.add_messages(owner, new).answer_id
    answer.state, answer.version = "done", 3

    assert answers._write_end(answer.so_far())
    assert answers._write_end(answer.so_far())  # its connection was gone behind the commit
    answer.state = "failed"
    assert not answers._write_end(answer.so_far())  # somebody else has ended it, or it is gone


async def test_answer_ends_also_where_it_cannot_be_rendered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> bool:
        raise RecursionError

    monkeypatch.setattr(answers, "_write_end", fail)
    answer = growing_answer("all of it")
    await answer._end("done")

    assert answer.has_ended
    assert "could not be written" in caplog.text


# Nothing is read or written, but whoever calls the database looks at a connection that other tests
# may have left on its thread.
@pytest.mark.django_db
@pytest.mark.parametrize("failures", [0, 2, None], ids=["at once", "later", "never"])
async def test_answer_ends_also_where_its_end_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, failures: int | None
) -> None:
    tries = 0

    def write_end(_: object) -> bool:
        nonlocal tries
        tries += 1
        if failures is None or tries <= failures:
            raise OperationalError("the connection is lost")
        return True

    monkeypatch.setattr(answers, "_write_end", write_end)
    monkeypatch.setattr(answers, "SAVE_EVERY_S", 0.01)
    monkeypatch.setattr(answers, "WRITE_FOR_S", 0.2)
    answer = growing_answer("all of it")
    await answer._end("done")

    assert answer.has_ended
    assert answer.state == "done"
    assert tries == (failures or 0) + 1 if failures is not None else tries > 3
