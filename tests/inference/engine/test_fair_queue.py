"""The fair queue, who is paused for whom, and what waiting takes: pure, time is a number."""

import pytest

from inference.engine.fair_queue import AGEING_S, CREDIT, Entry, FairQueue
from inference.engine.preemption import LEAST_TURN_TOKENS, QUANTUM, choose_victims
from inference.engine.service_rate import ServiceRate
from inference.messages import (
    Embed,
    Generate,
    ModelRef,
    Priority,
    RawPrompt,
    RunnerOptions,
    Sampling,
)

MODEL = ModelRef(name="m", digest="d", weights="w")
OPTIONS = RunnerOptions(num_ctx=256)


class Queue:
    """A queue with the few words that these tests need."""

    def __init__(self) -> None:
        self.fair = FairQueue()
        self.entries: dict[str, Entry] = {}

    def add(self, name: str, now: float = 0.0, slots: int = 1, **changes: object) -> Entry:
        """Let the request `name` of the user that its first letter names wait."""
        request = Generate(
            request_id=name,
            model=MODEL,
            runner=OPTIONS,
            prompt=RawPrompt(text=""),
            sampling=Sampling(),
            user=name[0],
            **changes,  # type: ignore[arg-type]
        )
        entry = self.entries[name] = Entry(request, len(self.entries), now, slots=slots)
        self.fair.add(entry)
        return entry

    def run(self, name: str, now: float = 0.0, **changes: object) -> Entry:
        """Let a request run at once."""
        entry = self.add(name, now, **changes)  # type: ignore[arg-type]
        self.fair.take(entry, now)
        return entry

    def serve(self, entry: Entry, tokens: int, now: float = 0.0) -> None:
        """Compute completion tokens."""
        self.fair.charge(entry, now, prompt_tokens=0, completion_tokens=tokens)

    def turns(self, now: float = 0.0) -> list[str]:
        """Let everybody have their turn and end without service; return the order."""
        names = []
        while (entry := self.fair.best(now)) is not None:
            self.fair.take(entry, now)
            names.append(entry.request_id)
        return names

    def victims(self, entry: Entry, missing: int = 1) -> list[str]:
        """Return who would be paused."""
        chosen = choose_victims(entry, self.fair.running, self.fair, missing)
        return [victim.request_id for victim in chosen]


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_requests_of_one_user_are_served_in_order_of_arrival(queue: Queue) -> None:
    for name in ("a1", "a2", "a3"):
        queue.add(name)

    assert queue.turns() == ["a1", "a2", "a3"]


def test_the_user_who_had_less_goes_first(queue: Queue) -> None:
    hungry, fed = queue.run("h1"), queue.run("f1")
    queue.serve(fed, 100)
    queue.serve(hungry, 10)
    queue.add("f2")
    queue.add("h2")

    assert queue.turns() == ["h2", "f2"]


def test_a_completion_token_counts_twice_a_prompt_token(queue: Queue) -> None:
    entry = queue.run("a1")
    queue.fair.charge(entry, 0.0, prompt_tokens=10, completion_tokens=3)

    assert queue.fair.counter("a") == 16


def test_a_heavier_user_is_charged_less(queue: Queue) -> None:
    queue.serve(queue.run("a1", weight=4.0), 100)

    assert queue.fair.counter("a") == 50


@pytest.mark.parametrize("weight", [0.0, -3.0])
def test_a_weight_that_makes_no_sense_does_not_break_the_counters(
    queue: Queue, weight: float
) -> None:
    queue.serve(queue.run("a1", weight=weight), 1)

    assert queue.fair.counter("a") == 200


def test_between_equals_the_one_with_fewer_slots_goes_first(queue: Queue) -> None:
    queue.run("a1")
    queue.add("a2")
    queue.add("b1")

    assert queue.turns() == ["b1", "a2"]


def test_a_newcomer_is_lifted_to_the_least_served_of_the_active_less_a_credit(
    queue: Queue,
) -> None:
    first, second = queue.run("a1"), queue.run("b1")
    queue.serve(first, 5000)
    queue.serve(second, 3000)
    queue.add("c1")

    assert queue.fair.counter("c") == 6000 - CREDIT


def test_who_was_away_keeps_the_debt(queue: Queue) -> None:
    queue.run("a1")
    greedy = queue.run("g1")
    queue.serve(greedy, 5000)
    queue.fair.leave(greedy)
    queue.add("g2")

    assert queue.fair.counter("g") == 10_000


def test_when_nobody_is_active_all_is_forgotten(queue: Queue) -> None:
    entry = queue.run("a1")
    queue.serve(entry, 5000)
    queue.fair.leave(entry)

    assert queue.fair.is_unused
    assert queue.fair.counter("a") == 0


def test_better_classes_go_first(queue: Queue) -> None:
    queue.add("b1", priority=Priority.BATCH)
    queue.add("a1", priority=Priority.API)
    queue.add("i1", priority=Priority.INTERACTIVE)

    assert queue.turns() == ["i1", "a1", "b1"]


def test_who_waits_long_enough_rises_a_class(queue: Queue) -> None:
    queue.add("b1", 0.0, priority=Priority.BATCH)
    queue.add("a1", AGEING_S, priority=Priority.API)

    assert queue.turns(AGEING_S) == ["b1", "a1"]


def test_what_a_served_user_has_piled_up_does_not_rise(queue: Queue) -> None:
    running = queue.run("h1", priority=Priority.API)
    queue.add("h2", 0.0, priority=Priority.API)
    queue.serve(running, 1, now=AGEING_S - 1)
    queue.fair.best(AGEING_S)

    assert queue.entries["h2"].level == Priority.API


def test_who_has_risen_is_lifted_to_the_counters_of_the_better_class(queue: Queue) -> None:
    queue.add("b1", 0.0, priority=Priority.BATCH)
    queue.serve(queue.run("a1", 0.0, priority=Priority.API), 4000)
    queue.fair.best(AGEING_S)

    assert queue.fair.counter("b") == 8000 - CREDIT


def test_a_paused_request_goes_back_to_its_place_among_its_users(queue: Queue) -> None:
    first = queue.run("a1")
    queue.add("a2")
    queue.fair.put_back(first, 1.0)

    assert first.is_paused
    assert queue.turns(1.0) == ["a1", "a2"]


def test_a_paused_request_starts_again_in_its_own_class(queue: Queue) -> None:
    entry = queue.add("b1", 0.0, priority=Priority.BATCH)
    queue.fair.best(AGEING_S)
    queue.fair.take(entry, AGEING_S)
    queue.fair.put_back(entry, AGEING_S + 1)

    assert entry.level == Priority.BATCH


def test_leaving_twice_counts_once(queue: Queue) -> None:
    entry = queue.run("a1")
    queue.add("a2")
    queue.fair.leave(entry)
    queue.fair.leave(entry)

    assert not queue.fair.is_unused
    assert queue.fair.slots_taken == 0


def test_the_order_takes_turns_between_users(queue: Queue) -> None:
    for name in ("a1", "a2", "a3", "b1", "b2"):
        queue.add(name)

    names = [entry.request_id for entry in queue.fair.order(0.0, mean_cost=100)]
    assert names == ["a1", "b1", "a2", "b2", "a3"]


def test_the_order_begins_with_who_goes_next(queue: Queue) -> None:
    queue.serve(queue.run("a1"), 1000)
    queue.add("a2", priority=Priority.INTERACTIVE)
    queue.add("b1")

    assert queue.fair.order(0.0, mean_cost=100)[0] is queue.fair.best(0.0)


# ---------------------------------------------------------------- who is paused


def test_a_user_without_slots_takes_one_of_a_user_with_several(queue: Queue) -> None:
    queue.run("h1")
    queue.run("h2")

    assert queue.victims(queue.add("p1")) == ["h2"]


def test_nobody_is_paused_when_the_shares_would_not_become_more_even(queue: Queue) -> None:
    queue.run("a1")
    queue.run("b1")

    assert queue.victims(queue.add("c1")) == []


def test_a_user_is_not_paused_for_their_own_next_request(queue: Queue) -> None:
    queue.serve(queue.run("a1"), 1000)
    queue.run("a2")

    assert queue.victims(queue.add("a3")) == []


def test_a_heavier_user_may_hold_more_slots(queue: Queue) -> None:
    for name in ("h1", "h2", "h3"):
        queue.run(name, weight=3.0)

    assert queue.victims(queue.add("p1")) == []


@pytest.mark.parametrize(
    ("tokens", "expected"), [(LEAST_TURN_TOKENS - 1, []), (LEAST_TURN_TOKENS, ["a1"])]
)
def test_who_is_ahead_keeps_the_slot_for_a_least_turn(
    queue: Queue, tokens: int, expected: list[str]
) -> None:
    ahead = queue.run("a1")
    queue.fair.charge(ahead, 0.0, prompt_tokens=2000, completion_tokens=tokens)

    assert queue.victims(queue.add("b1")) == expected


def test_a_lead_within_the_quantum_ends_no_turn(queue: Queue) -> None:
    ahead, behind = queue.run("a1"), queue.run("b1")
    queue.serve(ahead, int(QUANTUM / 2))
    queue.fair.put_back(behind, 0.0)

    assert queue.victims(behind) == []


def test_a_batch_request_gives_way_to_any_better_class(queue: Queue) -> None:
    queue.run("b1", priority=Priority.BATCH)

    assert queue.victims(queue.add("b2", priority=Priority.API)) == ["b1"]


@pytest.mark.parametrize(
    ("tokens", "expected"), [(LEAST_TURN_TOKENS - 1, []), (LEAST_TURN_TOKENS, ["a1"])]
)
def test_any_request_gives_way_to_a_better_class_after_a_least_turn(
    queue: Queue, tokens: int, expected: list[str]
) -> None:
    queue.serve(queue.run("a1", priority=Priority.API), tokens)

    assert queue.victims(queue.add("i1", priority=Priority.INTERACTIVE)) == expected


def test_a_better_class_does_not_give_way_to_a_worse_one(queue: Queue) -> None:
    queue.run("a1", priority=Priority.INTERACTIVE)
    queue.run("a2", priority=Priority.INTERACTIVE)

    assert queue.victims(queue.add("b1", priority=Priority.API)) == []


def test_embedding_is_never_paused(queue: Queue) -> None:
    for number in range(2):
        request = Embed(
            request_id=f"e{number}", model=MODEL, runner=OPTIONS, inputs=("x",), user="e"
        )
        entry = Entry(request, number, 0.0)
        queue.fair.add(entry)
        queue.fair.take(entry, 0.0)

    assert queue.victims(queue.add("p1", priority=Priority.INTERACTIVE)) == []


def test_several_are_paused_for_who_needs_several_slots(queue: Queue) -> None:
    for number in range(4):
        queue.run(f"h{number}")

    assert queue.victims(queue.add("p1", slots=2), missing=2) == ["h3", "h2"]


def test_nobody_is_paused_where_it_would_not_be_enough(queue: Queue) -> None:
    for number in range(4):
        queue.run(f"h{number}")

    assert queue.victims(queue.add("p1", slots=3), missing=3) == []


# ---------------------------------------------------------------- estimates


def test_a_waiting_time_follows_from_length_and_speed() -> None:
    rate = ServiceRate()
    for step in range(30):
        rate.stepped(20.0, step * 0.1)
    rate.ended(400.0)

    assert rate.wait_s(3) == pytest.approx(3 * 400 / 200)


def test_without_a_past_nobody_knows_the_waiting_time() -> None:
    rate = ServiceRate()
    rate.stepped(20.0, 0.0)

    assert rate.wait_s(1) is None


def test_idle_time_does_not_make_a_runner_slow() -> None:
    rate = ServiceRate()
    for begin in (0.0, 1000.0):
        for step in range(20):
            rate.stepped(10.0, begin + step * 0.1)
    rate.ended(100.0)

    assert rate.wait_s(1) == pytest.approx(1.0, rel=0.05)
