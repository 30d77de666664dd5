"""The largest of many values, against sorting them all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from inference.engine.ranking import strongest


@given(
    values=npst.arrays(np.float32, st.integers(1, 400), elements=st.floats(-50, 50, width=32)),
    count=st.integers(1, 60),
)
def test_they_are_those_that_a_stable_sort_puts_first(
    values: np.ndarray[tuple[int], np.dtype[np.float32]], count: int
) -> None:
    expected = np.argsort(-values, kind="stable")[:count]
    assert strongest(values, count).tolist() == expected.tolist()


def test_forty_of_a_large_vocabulary_are_the_forty_largest() -> None:
    values = np.random.default_rng(1).normal(0, 3, 49_153).astype(np.float32)
    assert strongest(values, 40).tolist() == np.argsort(-values, kind="stable")[:40].tolist()


def test_minus_infinity_is_never_among_them() -> None:
    values = np.full(10_000, -np.inf, np.float32)
    values[[5, 9000]] = [1, 2]
    assert strongest(values, 40).tolist() == [9000, 5]


def test_nan_is_never_among_them() -> None:
    values = np.full(10_000, np.nan, np.float32)
    values[7] = 1
    assert strongest(values, 40).tolist() == [7]
