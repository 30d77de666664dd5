"""Whatever happens in whatever order, every request ends once and says what it says alone."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from inference.engine.pace import FEWEST_TOKENS
from inference.messages import Failed, Finished, Generate
from tests.inference.engine.fake_model import FakeModel
from tests.inference.engine.loop_bench import LoopBench, asked

WINDOW: Final = 96
PREFIXES: Final = (
    "",
    "the one prefix that many of them share: ",
    "another prefix that some share> ",
)


@dataclass(slots=True)
class Fate:
    """What was done to a request."""

    request: Generate
    text: str
    is_cancelled: bool = False
    is_paused: bool = False
    alone: list[str] = field(default_factory=list)  # what each choice says with nobody beside it


def said_alone(request: Generate, model: FakeModel) -> list[str]:
    bench = LoopBench(model)
    bench.add_request(request)
    bench.run()
    return [bench.text(request.request_id, choice) for choice in range(request.choices)]


class Interleavings(RuleBasedStateMachine):
    """Requests come, pause, go on, are cancelled and broken while the loop steps."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: dict[str, Fate] = {}
        self.can_keep = True
        self.breaks = 0
        self.bench = LoopBench()

    def model(self) -> FakeModel:
        # With so few tokens in a step the pace, which is measured, makes no difference.
        model = FakeModel(window_tokens=WINDOW, batch_tokens=FEWEST_TOKENS)
        model.can_keep = self.can_keep
        return model

    @initialize(
        parallel=st.integers(1, 4), store=st.sampled_from([0, 500, 5000]), keeps=st.booleans()
    )
    def begin(self, parallel: int, store: int, keeps: bool) -> None:
        self.can_keep = keeps
        self.parallel = parallel
        self.bench = LoopBench(self.model(), parallel=parallel, store_bytes=store)

    @rule(
        prefix=st.sampled_from(PREFIXES),
        length=st.sampled_from([0, 1, 7, 30, 60, 150]),
        choices=st.integers(1, 3),
        user=st.sampled_from(["alice", "bob"]),
        num_predict=st.sampled_from([None, None, 1, 5]),
        shift=st.booleans(),
    )
    def add(
        self,
        prefix: str,
        length: int,
        choices: int,
        user: str,
        num_predict: int | None,
        shift: bool,
    ) -> None:
        request_id = f"r{len(self.fates)}"
        text = prefix + f"{len(self.fates)}." + "xyz" * (length // 3)
        if len(text) >= WINDOW:
            shift = True  # a prompt that long is refused otherwise
        request = asked(
            request_id,
            text,
            choices=choices,
            user=user,
            num_predict=num_predict,
            shift=shift,
            num_keep=8,
        )
        self.fates[request_id] = Fate(request, text, alone=said_alone(request, self.model()))
        self.bench.add_request(request)

    @rule(times=st.integers(1, 12))
    def step(self, times: int) -> None:
        for _ in range(times):
            self.bench.step()

    @precondition(lambda self: self.fates)
    @rule(back=st.integers(0, 5))
    def cancel(self, back: int) -> None:
        fate = self._some(back)
        fate.is_cancelled = True
        self.bench.loop.cancel(fate.request.request_id)

    @precondition(lambda self: self.fates)
    @rule(back=st.integers(0, 5))
    def pause(self, back: int) -> None:
        fate = self._some(back)
        fate.is_paused = True
        self.bench.loop.pause(fate.request.request_id)

    @precondition(lambda self: self.fates)
    @rule(back=st.integers(0, 5))
    def resume(self, back: int) -> None:
        self.bench.loop.resume(self._some(back).request.request_id)

    @rule()
    def fail_the_next_step(self) -> None:
        self.bench.model.fail_next = True
        self.breaks += 1

    @invariant()
    def nobody_says_what_it_would_not_say_alone(self) -> None:
        for request_id, fate in self.fates.items():
            for choice, alone in enumerate(fate.alone):
                assert alone.startswith(self.bench.text(request_id, choice))

    @invariant()
    def no_sampler_is_closed_twice(self) -> None:
        assert all(sampler.closed <= 1 for sampler in self.bench.model.samplers)

    def _some(self, back: int) -> Fate:
        """Return one of the last requests: the earlier ones have mostly ended."""
        fates = list(self.fates.values())
        return fates[-1 - back % len(fates)]

    def teardown(self) -> None:
        self.bench.model.fail_next = False
        for request_id in self.fates:
            self.bench.loop.resume(request_id)
        self.bench.run()
        self._check_ends()
        assert [sampler.closed for sampler in self.bench.model.samplers].count(1) == len(
            self.bench.model.samplers
        )
        self._check_slots()

    def _check_ends(self) -> None:
        ends = Counter(e.request_id for e in self.bench.events if isinstance(e, Finished | Failed))
        assert ends == dict.fromkeys(self.fates, 1)
        for request_id, fate in self.fates.items():
            end = self.bench.end(request_id)
            if isinstance(end, Failed):
                assert fate.is_cancelled or self.breaks
            else:
                self._check_answers(fate, end)

    def _check_answers(self, fate: Fate, end: Finished) -> None:
        request = fate.request
        choices = range(request.choices)
        said = [self.bench.text(request.request_id, choice) for choice in choices]
        assert said == fate.alone
        limit = request.sampling.num_predict or len(fate.text)
        if 2 * len(fate.text) < WINDOW:
            assert said == [fate.text[:limit].upper()] * request.choices
        told = sorted(e.choice for e in self.bench.choices_ended(request.request_id))
        assert told == (list(choices) if request.choices > 1 else [])
        prompt, completion = self.bench.charged(request.request_id)
        assert completion == end.usage.completion_tokens
        if request.choices == 1 and not fate.is_paused:
            assert prompt == end.usage.prompt_tokens - end.usage.cached_tokens

    def _check_slots(self) -> None:
        """All slots are free: as many requests as there are slots start at once."""
        names = [f"after {number}" for number in range(self.parallel)]
        for name in names:
            self.bench.add(name, name, user=name)
        self.bench.step()
        assert [self.bench.started(name).prompt_tokens for name in names] == [7] * self.parallel
        self.bench.run()
        assert [self.bench.text(name) for name in names] == [name.upper() for name in names]


TestInterleavings = pytest.mark.timeout(170)(Interleavings.TestCase)
TestInterleavings.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
