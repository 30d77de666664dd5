"""The statistics behind docs/performance.md."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import fair_shares, jain, median, percentile, slope

_amounts = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20)


def test_percentile_is_interpolated_between_neighbours() -> None:
    assert percentile([40, 10, 20, 30], 50) == 25
    assert percentile([0, 10], 95) == 9.5


def test_percentiles_at_the_ends_are_the_extremes() -> None:
    assert percentile([3, 1, 2], 0) == 1
    assert percentile([3, 1, 2], 100) == 3


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_median_does_not_care_for_an_outlier() -> None:
    assert median([1, 2, 1000]) == 2


def test_jain_is_one_where_all_are_equal() -> None:
    assert jain([7, 7, 7]) == pytest.approx(1)


def test_jain_is_one_nth_where_one_has_everything() -> None:
    assert jain([0, 0, 12, 0]) == pytest.approx(1 / 4)


def test_jain_where_nobody_has_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        jain([0, 0])


@given(_amounts, st.floats(0.01, 100))
def test_jain_does_not_depend_on_the_unit(amounts: list[float], factor: float) -> None:
    assert jain([amount * factor for amount in amounts]) == pytest.approx(jain(amounts))


def test_what_the_modest_leave_goes_to_the_others() -> None:
    assert fair_shares(16, [100, 1, 1, 5]) == [9, 1, 1, 5]


def test_equal_demands_beyond_the_capacity_are_divided_equally() -> None:
    assert fair_shares(9, [10, 10, 10]) == [3, 3, 3]


@given(_amounts, st.floats(0.01, 1e6))
def test_fair_shares_use_up_what_can_be_used(demands: list[float], capacity: float) -> None:
    assert sum(fair_shares(capacity, demands)) == pytest.approx(min(capacity, sum(demands)))


def test_slope_of_a_line_is_its_rise() -> None:
    assert slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)


def test_slope_of_one_point_is_refused() -> None:
    with pytest.raises(ValueError, match="two different"):
        slope([1], [1])
