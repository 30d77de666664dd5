"""How fairness is counted."""

import pytest

from bench.fairness import Run, fairness_index, outcome


def test_equal_speed_of_every_slot_is_entirely_fair() -> None:
    assert fairness_index([110, 10, 10, 10, 10, 10], slots=16) == pytest.approx(1)


def test_a_hog_that_takes_the_polite_users_slots_is_seen() -> None:
    assert fairness_index([150, 2, 2, 2, 2, 2], slots=16) < 0.5


def test_runs_of_one_load_are_counted_together() -> None:
    first = Run(firsts_s=[1.0, 2.0], user_pieces=[10, 0], lasted_s=2.0)
    second = Run(firsts_s=[3.0], user_pieces=[20, 6], lasted_s=1.0)
    found = outcome([first, second])

    assert found.polite_p50_s == 2.0
    assert found.user_tokens_per_s == [10.0, 2.0]
