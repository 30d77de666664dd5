"""How fairness is counted."""

import pytest

from bench.fairness import fairness_index


def test_equal_speed_of_every_slot_is_entirely_fair() -> None:
    assert fairness_index([110, 10, 10, 10, 10, 10], slots=16) == pytest.approx(1)


def test_a_hog_that_takes_the_polite_users_slots_is_seen() -> None:
    assert fairness_index([150, 2, 2, 2, 2, 2], slots=16) < 0.5
