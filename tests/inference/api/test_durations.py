"""Properties of durations as `keep_alive` and the settings have them."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from inference.api.keep_alive import read_keep_alive
from ollamasite.durations import parse_duration_s
from ollamasite.errors import InvalidBody

NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
LONGEST_NS = 2**63 - 1

numbers = st.integers(0, 999) | st.decimals(0, 999, places=2)
parts = st.lists(st.tuples(numbers, st.sampled_from(list(NS))), min_size=1, max_size=4)
looks_like_one = st.text("0123456789.-+nusmhµ dw", max_size=12)


@given(parts)
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    exact_ns = sum(Fraction(str(number)) * NS[unit] for number, unit in parts)
    found = read_keep_alive(text)
    assert found is not None
    assert math.isclose(found.seconds, float(exact_ns) / 1e9, rel_tol=1e-9, abs_tol=1e-9)


@given(parts.filter(lambda parts: any(number for number, _ in parts)))
def test_a_negative_duration_is_for_ever(parts: list[tuple[int, str]]) -> None:
    found = read_keep_alive("-" + "".join(f"{number}{unit}" for number, unit in parts))
    assert found is not None
    assert found.seconds == math.inf


@given(st.text(max_size=12) | looks_like_one)
def test_any_text_is_a_duration_or_refused_in_gos_words(text: str) -> None:
    complaint, seconds = "time: ", 0.0
    try:
        found = read_keep_alive(text)
        seconds = found.seconds if found else math.nan
    except InvalidBody as error:
        complaint = error.message
    assert complaint.startswith("time: ")
    assert seconds == math.inf or 0 <= seconds <= LONGEST_NS / 1e9


@given(st.floats(allow_nan=False) | st.integers())
def test_a_number_is_seconds_and_a_negative_one_for_ever(number: float) -> None:
    found = read_keep_alive(number)
    assert found is not None
    if number < 0 or number > LONGEST_NS / 1e9:
        assert found.seconds == math.inf or number > -1e-9
    else:
        assert math.isclose(found.seconds, number, rel_tol=1e-9, abs_tol=1e-9)


@given(st.text(max_size=12) | looks_like_one)
def test_a_setting_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration_s(text)
    except ValueError:
        return
    assert seconds >= 0
    assert text == "-1" or text[0].isdigit()


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from("smhd")), min_size=1, max_size=4))
def test_a_settings_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration_s(text) == sum(n * NS.get(u, 86400 * 10**9) // 10**9 for n, u in parts)
