"""A lab's week in seconds, and one user with 32 requests beside five polite ones: pure simulation.

The figures of the second are the targets of the engine: time to first token of the polite at most
twice what it is without the hog, Jain's index at least 0.95, total at least 95 % of first come,
first served.
"""

import functools
import itertools
import random
from collections import defaultdict

import pytest

from inference.messages import Priority
from tests.inference.engine.lab import Habit, Job, Lab, fair_shares, jain, percentile

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
WARM_UP_S = 20.0

# ---------------------------------------------------------------- a hog and five polite users


def _hog(requests: int) -> list[Habit]:
    def one(number: int) -> Habit:
        yield 0.01 * number, Job("hog", 200, 400)
        while True:
            yield 0.0, None
            yield 0.0, Job("hog", 200, 400)

    return [one(number) for number in range(requests)]


def _polite(number: int, think_s: float) -> Habit:
    chance = random.Random(number)  # noqa: S311 - habits, not secrets

    def job() -> Job:
        return Job(f"p{number}", chance.randint(30, 120), chance.randint(20, 80))

    yield 5 + chance.random(), job()
    while True:
        yield 0.0, None
        yield chance.expovariate(1 / think_s) if think_s else 0.0, job()


@functools.cache
def _play(parallel: int, think_s: float, *, hog: bool, is_fair: bool = True) -> Lab:
    lab = Lab(parallel=parallel, is_fair=is_fair)
    habits = [_polite(number, think_s) for number in range(5)]
    lab.play(habits + _hog(32) if hog else habits, until=150.0)
    return lab


def _polite_p95_s(lab: Lab) -> float:
    polite = [job for job in lab.jobs if job.user != "hog" and job.submitted_at > WARM_UP_S]
    return percentile([job.ttft_s for job in polite if job.first_token_at is not None], 0.95)


LOADS = [(4, 0.0), (4, 3.0), (8, 0.5)]


@pytest.mark.parametrize(("parallel", "think_s"), LOADS)
def test_polite_users_wait_at_most_twice_as_long_beside_a_hog(
    parallel: int, think_s: float
) -> None:
    alone_s = _polite_p95_s(_play(parallel, think_s, hog=False))
    beside_s = _polite_p95_s(_play(parallel, think_s, hog=True))

    assert beside_s <= 2 * alone_s


@pytest.mark.parametrize(("parallel", "think_s"), LOADS)
def test_everybody_gets_a_fair_share_beside_a_hog(parallel: int, think_s: float) -> None:
    lab = _play(parallel, think_s, hog=True)
    served = {user: float(hours.total()) for user, hours in lab.served.items()}
    demands = dict.fromkeys(served, 0.0)
    for job in lab.jobs:
        demands[job.user] += job.cost
    shares = fair_shares(demands, sum(served.values()))

    assert jain(served[user] / shares[user] for user in served) >= 0.95


@pytest.mark.parametrize(("parallel", "think_s"), LOADS)
def test_fairness_costs_at_most_a_twentieth_of_the_total(parallel: int, think_s: float) -> None:
    fair = _play(parallel, think_s, hog=True)
    in_order = _play(parallel, think_s, hog=True, is_fair=False)

    assert in_order.pauses == 0
    assert fair.total_cost >= 0.95 * in_order.total_cost


def test_a_hog_alone_gets_everything() -> None:
    lab = Lab(parallel=4)
    lab.play(_hog(32), until=100.0)
    in_order = Lab(parallel=4, is_fair=False)
    in_order.play(_hog(32), until=100.0)

    assert lab.total_cost == in_order.total_cost


# ---------------------------------------------------------------- a week


def _chatter(number: int) -> Habit:
    """Chats on working days from nine to five, some minutes between the questions."""
    chance = random.Random(f"chatter {number}")  # noqa: S311 - habits, not secrets
    now = 0.0
    for day in range(5):
        at = day * DAY_S + 9 * HOUR_S
        while (at := at + chance.expovariate(1 / 400)) < day * DAY_S + 17 * HOUR_S:
            sizes = chance.randint(50, 600), chance.randint(50, 300)
            yield at - now, Job(f"chat{number}", *sizes, priority=Priority.INTERACTIVE)
            now = at


def _burst(user: str, at_s: float, count: int, priority: Priority) -> list[Habit]:
    """Send many requests at once."""
    chance = random.Random(f"{user} {at_s}")  # noqa: S311 - habits, not secrets

    def one() -> Habit:
        yield at_s, Job(user, chance.randint(100, 800), chance.randint(200, 1400), priority)

    return [one() for _ in range(count)]


def _week() -> list[Habit]:
    habits: list[Habit] = [_chatter(number) for number in range(9)]
    for day in (0, 2, 4):  # scripts
        for number in range(5):
            at_s = day * DAY_S + 10 * HOUR_S + (number % 3) * 600
            habits += _burst(f"script{number}", at_s, 100, Priority.API)
    for day in (0, 2):  # hogs beside them
        for number in range(2):
            habits += _burst(f"hog{number}", day * DAY_S + 9.9 * HOUR_S, 400, Priority.API)
    for day in range(4):  # nights, and one night's work that is sent in the morning
        for number in range(4):
            at_s = day * DAY_S + (9.5 if number == 0 else 20) * HOUR_S
            habits += _burst(f"night{number}", at_s, 120, Priority.BATCH)
    return habits


@pytest.fixture(scope="module")
def week() -> Lab:
    lab = Lab(parallel=8, stride=64, slowness=4.0)
    lab.play(_week(), until=7 * DAY_S)
    return lab


def test_every_request_of_the_week_ends_once(week: Lab) -> None:
    assert len({job.user for job in week.jobs}) == 20
    assert len(week.jobs) > 5_000
    assert {job.ends for job in week.jobs} == {1}


def test_who_chats_never_waits_long(week: Lab) -> None:
    chats = [job.ttft_s for job in week.jobs if job.priority is Priority.INTERACTIVE]

    step_s = 64 * 4.0 * 0.028  # of 64 tokens for each of eight
    assert percentile(chats, 0.5) < 2 * step_s
    assert percentile(chats, 0.99) < 5 * step_s


def test_nobody_is_left_without_service_for_long(week: Lab) -> None:
    # A batch request rises to the first class in two minutes; its turn comes soon after.
    assert max(week.longest_gap_s.values()) < 240


def test_a_burst_is_served_in_order_of_arrival(week: Lab) -> None:
    hog = [job for job in week.jobs if job.user == "hog0"]
    begun = [job.first_token_at for job in hog]
    assert all(a <= b + 60 for a, b in itertools.pairwise(begun) if a and b)


def test_every_contended_hour_is_fair_within_each_class(week: Lab) -> None:
    contended = 0
    for hour in range(7 * 24):
        for priority in Priority:
            served, demands = _hour(week, hour, priority)
            total = sum(served.values())
            if len(demands) < 2 or sum(demands.values()) < 1.2 * total:
                continue
            contended += 1
            shares = fair_shares(demands, total)
            index = jain(served[user] / shares[user] for user in demands)
            assert index >= 0.95, (hour, priority, served, demands)
    assert contended >= 10


def _hour(lab: Lab, hour: int, priority: Priority) -> tuple[dict[str, float], dict[str, float]]:
    """Return what each user of a class got in an hour and what they could have used.

    That is what they got and what was left at the end, without what came in the last minutes.
    """
    end_s = (hour + 1) * HOUR_S
    left: dict[str, float] = defaultdict(float)
    users = set()
    for job in lab.jobs:
        if job.priority is priority:
            users.add(job.user)
            if job.submitted_at < end_s - 300:
                left[job.user] += job.cost
    served: dict[str, float] = {}
    demands: dict[str, float] = {}
    for user in users:
        so_far = sum(cost for at, cost in lab.served[user].items() if at <= hour)
        got = float(lab.served[user][hour])
        if demand := got + max(0.0, left[user] - so_far):
            served[user], demands[user] = got, demand
    return served, demands
