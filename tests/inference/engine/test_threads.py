"""Choosing a thread count by trying."""

from inference.engine.llama.threads import candidates, fastest


def test_powers_of_two_and_the_most_are_tried() -> None:
    assert candidates(12) == [1, 2, 4, 8, 12]


def test_with_one_thread_there_is_nothing_else_to_try() -> None:
    assert candidates(1) == [1]


def test_the_fastest_count_is_chosen() -> None:
    assert fastest(8, {1: 4.0, 2: 2.0, 4: 1.0, 8: 3.0}.__getitem__) == 4


def test_more_threads_that_are_hardly_faster_are_left_to_others() -> None:
    assert fastest(4, {1: 1.0, 2: 0.99, 4: 0.98}.__getitem__) == 1


def test_small_gains_that_add_up_are_taken() -> None:
    assert fastest(4, {1: 1.0, 2: 0.98, 4: 0.96}.__getitem__) == 4


def test_every_count_is_timed_once() -> None:
    timed: list[int] = []

    def seconds_with(count: int) -> float:
        timed.append(count)
        return 1.0

    fastest(6, seconds_with)
    assert timed == [1, 2, 4, 6]
