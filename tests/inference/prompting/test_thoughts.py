"""Answers that clients send back with their thinking in front."""

import pytest

from inference.messages import ChatMessage
from inference.prompting.thoughts import without_old_thoughts

QUESTION = ChatMessage(role="user", content="<think>q</think>?")


def answer(content: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=content)


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ("<think>hm</think>\n\nYes", "Yes"),
        (" \n<think>hm</think>Yes", "Yes"),
        ("<think>hm</think>Yes<think>no</think>", "Yes<think>no</think>"),
        ("<think>never ends", ""),
        ("Yes <think>hm</think>", "Yes <think>hm</think>"),
        ("Yes", "Yes"),
    ],
)
def test_an_old_answer_begins_behind_its_thinking(content: str, left: str) -> None:
    assert without_old_thoughts([QUESTION, answer(content), QUESTION])[1].content == left


def test_an_answer_to_the_last_question_stays() -> None:
    messages = (QUESTION, answer("<think>a</think>b"))
    assert without_old_thoughts(messages) == messages


def test_questions_stay_as_they_are() -> None:
    messages = (QUESTION, answer("a"), QUESTION)
    assert without_old_thoughts(messages) == messages


def test_a_conversation_may_have_no_question() -> None:
    messages = (answer("<think>a</think>b"),)
    assert without_old_thoughts(messages) == messages
