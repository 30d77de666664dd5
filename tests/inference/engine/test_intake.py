"""Prompts are prepared on a thread beside the loop; every request comes out once."""

import select
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from msgspec import structs

from inference.engine import intake as intake_module
from inference.engine.intake import Intake, Settled
from inference.engine.prompt import Prepared
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    DoneReason,
    Failed,
    FailureCode,
    Finished,
    Rendered,
)
from tests.inference.engine.fake_model import FakeModel, generate
from tests.inference.engine.loop_bench import asked, with_images

WAIT_S = 30


class HeldModel(FakeModel):
    """Tokenizes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = threading.Event()
        self.has_begun = threading.Event()
        self.tokenized: list[str] = []

    def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
        self.has_begun.set()
        assert self.may_go.wait(WAIT_S)
        self.tokenized.append(text)
        return super().tokenize(text, parse_special=parse_special)


def taken(intake: Intake, count: int) -> list[Prepared | Settled]:
    """Wait for results as the runner does."""
    results: list[Prepared | Settled] = []
    while len(results) < count:
        assert select.select([intake.fileno()], [], [], WAIT_S)[0]
        results += intake.take()
    return results


def ids(results: list[Prepared | Settled]) -> list[str]:
    return [r.request_id if isinstance(r, Settled) else r.request.request_id for r in results]


def failure_of(result: Prepared | Settled) -> FailureCode:
    assert isinstance(result, Settled)
    (event,) = result.events
    assert isinstance(event, Failed)
    return event.code


def test_requests_come_out_prepared_in_their_order() -> None:
    intake = Intake(FakeModel())
    for number in range(20):
        intake.submit(asked(f"r{number}", f"text {number}"))
    results = taken(intake, 20)
    assert ids(results) == [f"r{number}" for number in range(20)]
    prepared = results[7]
    assert isinstance(prepared, Prepared)
    assert bytes(prepared.prompt.tokens) == b"text 7"


def test_what_was_just_submitted_is_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "_PATIENCE_S", WAIT_S)
    intake = Intake(FakeModel())
    intake.submit(asked("r1"))
    intake.submit(asked("r2"))
    assert ids(intake.take()) == ["r1", "r2"]


def test_a_slow_prompt_is_waited_for_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s: list[float] = []

    def wait(_reading: object, _writing: object, _other: object, seconds: float) -> None:
        waits_s.append(seconds)

    monkeypatch.setattr(intake_module, "time", SimpleNamespace(monotonic=lambda: sum(waits_s)))
    monkeypatch.setattr(intake_module, "select", SimpleNamespace(select=wait))
    model = HeldModel()
    intake = Intake(model)
    intake.submit(asked("r1"))
    assert [intake.take() for _ in range(100)] == [[]] * 100
    assert waits_s == [intake_module._PATIENCE_S]
    assert waits_s[0] < 0.1
    model.may_go.set()
    assert ids(taken(intake, 1)) == ["r1"]


def test_what_cannot_be_prepared_comes_out_refused() -> None:
    intake = Intake(FakeModel())
    intake.submit(asked("r1", ""))
    (refused,) = taken(intake, 1)
    assert failure_of(refused) is FailureCode.BAD_REQUEST


def test_an_error_that_nobody_expected_refuses_its_request_only() -> None:
    class Broken(FakeModel):
        def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
            if text == "bad":
                raise ZeroDivisionError("what now")
            return super().tokenize(text, parse_special=parse_special)

    intake = Intake(Broken())
    intake.submit(asked("r1", "bad"))
    intake.submit(asked("r2", "good"))
    refused, prepared = taken(intake, 2)
    assert failure_of(refused) is FailureCode.INTERNAL
    assert isinstance(prepared, Prepared)


def test_taking_never_waits() -> None:
    model = HeldModel()
    intake = Intake(model)
    intake.submit(asked("r1"))
    assert model.has_begun.wait(WAIT_S)
    assert intake.take() == []
    model.may_go.set()
    assert ids(taken(intake, 1)) == ["r1"]


def test_with_nothing_submitted_there_is_nothing_to_wake_for() -> None:
    intake = Intake(FakeModel())
    assert select.select([intake.fileno()], [], [], 0)[0] == []


def test_what_was_taken_wakes_nobody_again() -> None:
    intake = Intake(FakeModel())
    intake.submit(asked("r1"))
    taken(intake, 1)
    assert select.select([intake.fileno()], [], [], 0.05)[0] == []


def dropped_while(moment: Callable[[HeldModel], object]) -> tuple[list[str], list[str]]:
    """Drop r2 at a moment; return the texts that were tokenized and what came out."""
    model = HeldModel()
    intake = Intake(model)
    intake.submit(asked("r1", "one"))
    intake.submit(asked("r2", "two"))
    intake.submit(asked("r3", "three"))
    moment(model)
    assert intake.drop("r2")
    model.may_go.set()
    return model.tokenized, ids(taken(intake, 2))


def test_a_dropped_request_does_not_come_out_nor_is_it_prepared() -> None:
    texts, out = dropped_while(lambda model: model.has_begun.wait(WAIT_S))
    assert out == ["r1", "r3"]
    assert texts == ["one", "three"]


def test_a_request_that_is_dropped_after_it_was_prepared_does_not_come_out() -> None:
    intake = Intake(FakeModel())
    intake.submit(asked("r1"))
    assert select.select([intake.fileno()], [], [], WAIT_S)[0]
    assert intake.drop("r1")
    assert intake.take() == []


def test_a_request_can_be_dropped_once_and_not_after_it_was_taken() -> None:
    intake = Intake(FakeModel())
    intake.submit(asked("r1"))
    taken(intake, 1)
    assert not intake.drop("r1")
    assert not intake.drop("nobody")


def test_deeply_nested_templates_are_refused_and_the_thread_lives_on() -> None:
    intake = Intake(FakeModel())
    nested = "{{ if true }}" * 5000 + "{{ end }}" * 5000
    bad = generate("bad", messages=[ChatMessage(role="user", content="x")])
    prompt = type(bad.prompt)(messages=bad.prompt.messages, template=nested)  # type: ignore[union-attr, call-arg]
    fields = {name: getattr(bad, name) for name in bad.__struct_fields__}
    intake.submit(type(bad)(**{**fields, "prompt": prompt}))
    intake.submit(asked("good"))
    refused, prepared = taken(intake, 2)
    assert failure_of(refused) is FailureCode.TEMPLATE_FAILED
    assert isinstance(prepared, Prepared)


def test_what_is_only_to_be_rendered_comes_out_with_its_text_and_its_end() -> None:
    intake = Intake(FakeModel(sees=True))
    request = structs.replace(with_images("r1", "look[img-0]here", b"\x05"), renders_only=True)
    intake.submit(request)
    (settled,) = taken(intake, 1)
    assert isinstance(settled, Settled)
    shown, end = settled.events
    assert isinstance(shown, Rendered)
    assert shown.image_count == 1
    assert shown.text.startswith("look")
    assert end == Finished(request_id="r1", reason=DoneReason.STOP)


def test_the_tokens_of_what_is_only_rendered_come_out_where_they_are_asked_for() -> None:
    intake = Intake(FakeModel())
    intake.submit(structs.replace(asked("r1", "hello"), renders_only=True, counts_tokens=True))
    (settled,) = taken(intake, 1)
    assert isinstance(settled, Settled)
    shown, _ = settled.events
    assert isinstance(shown, Rendered)
    assert shown.prompt_tokens == len("hello")


def test_a_prompt_that_cannot_be_rendered_is_refused_where_it_was_only_to_be_shown() -> None:
    intake = Intake(FakeModel())
    prompt = ChatPrompt(messages=(ChatMessage(role="user", content="x"),), template="{{ if }}")
    intake.submit(structs.replace(asked("r1"), prompt=prompt, renders_only=True))
    (refused,) = taken(intake, 1)
    assert failure_of(refused) is FailureCode.TEMPLATE_FAILED
