"""An answer that runs in this process, as its followers ask for it."""

import asyncio

from inference.chats.answers import Answer
from inference.chats.markdown import render_blocks


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
