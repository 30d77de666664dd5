"""How many tokens a prompt has, where only that is asked for."""

from typing import Any

import pytest

from inference.messages import ChatMessage, FailureCode, FillPrompt, RawPrompt, TokensPrompt
from tests.inference.engine.fake_model import END, FakeModel
from tests.inference.engine.test_prompt import (
    TURNS,
    AnyPrompt,
    chat,
    prepared,
    refused,
    tokens,
    user,
)


def counted(prompt: AnyPrompt, model: FakeModel | None = None, **fields: Any) -> int:
    wishes = {"renders_only": True, "counts_tokens": True, "truncate": False, **fields}
    return prepared(prompt, model, **wishes).counted_tokens


@pytest.mark.parametrize(
    "prompt",
    [
        chat(user("hi<end>"), template=TURNS),
        chat(user("hi", images=(b"\x05", b"\x06"))),
        chat(user("b"), context=(97, END)),
        RawPrompt(text="a[img-0]", images=(b"\x05",)),
        TokensPrompt(tokens=(97, END)),
        FillPrompt(prefix="a", suffix="b"),
    ],
)
def test_as_many_tokens_are_counted_as_would_be_computed(prompt: AnyPrompt) -> None:
    model = FakeModel(sees=True)
    assert counted(prompt, model) == len(tokens(prompt, model))


def test_nothing_is_counted_where_that_is_not_asked_for() -> None:
    assert counted(chat(user("hi")), counts_tokens=False) == 0


def test_a_prompt_longer_than_the_window_is_counted_whole() -> None:
    messages = (user("x" * 400), ChatMessage(role="assistant", content="y" * 400), user("z"))
    rendered = f"user:{'x' * 400};assistant:{'y' * 400};user:z;"
    assert counted(chat(*messages), num_ctx=64) == len(rendered)


@pytest.mark.parametrize(
    "prompt",
    [
        chat(user("x" * 2_000_000)),
        RawPrompt(text="x" * 2_000_000),
        FillPrompt(prefix="x" * 2_000_000, suffix=""),
    ],
)
def test_the_tokens_of_a_text_that_is_too_long_for_a_tokenizer_are_estimated(
    prompt: AnyPrompt,
) -> None:
    assert counted(prompt) == pytest.approx(500_000, abs=2)


def test_images_are_not_counted_by_a_model_that_cannot_see() -> None:
    error = refused(
        RawPrompt(text="[img-0]", images=(b"\x05",)), renders_only=True, counts_tokens=True
    )
    assert error.code is FailureCode.BAD_REQUEST
