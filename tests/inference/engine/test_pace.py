"""How many prompt tokens go into a step."""

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.pace import (
    FEWEST_TOKENS,
    LONGEST_STEP_S,
    MOST_TOKENS,
    TARGET_STEP_S,
    PrefillPace,
)


def paced(tokens_per_s: float) -> PrefillPace:
    pace = PrefillPace()
    pace.observe(1000, 0, 1000 / tokens_per_s)
    return pace


def test_before_anything_is_known_a_step_is_small() -> None:
    assert FEWEST_TOKENS < PrefillPace().chunk_tokens(others_answer=True) <= 64


def test_beside_answers_a_step_takes_the_target_time() -> None:
    assert paced(1000).chunk_tokens(others_answer=True) == int(1000 * TARGET_STEP_S)


def test_with_nobody_answering_a_step_may_take_longer() -> None:
    assert paced(500).chunk_tokens(others_answer=False) == int(500 * LONGEST_STEP_S)


def test_a_slow_machine_still_computes_a_few_tokens_in_a_step() -> None:
    assert paced(2).chunk_tokens(others_answer=True) == FEWEST_TOKENS


def test_a_fast_machine_has_an_upper_bound() -> None:
    assert paced(1e6).chunk_tokens(others_answer=True) == MOST_TOKENS


def test_steps_of_single_tokens_say_nothing_about_prompts() -> None:
    pace = paced(1000)
    before = pace.chunk_tokens(others_answer=True)
    pace.observe(FEWEST_TOKENS - 1, 0, 10.0)
    assert pace.chunk_tokens(others_answer=True) == before


def test_what_answers_take_is_left_out_of_a_steps_time() -> None:
    pace = paced(1000)
    pace.observe(0, 8, 0.1)
    assert pace.chunk_tokens(others_answer=True) == int(1000 * (TARGET_STEP_S - 0.1))


def test_the_time_of_answers_is_not_counted_as_that_of_prompts() -> None:
    pace = PrefillPace()
    pace.observe(0, 8, 0.1)
    pace.observe(100, 8, 0.3)
    assert pace.chunk_tokens(others_answer=False) == int(100 / 0.2 * LONGEST_STEP_S)


def test_prompts_go_on_where_answers_alone_take_longer_than_a_step_should() -> None:
    pace = paced(1000)
    pace.observe(0, 8, 10.0)
    assert pace.chunk_tokens(others_answer=True) == int(1000 * TARGET_STEP_S / 2)


def test_a_step_that_took_no_time_is_ignored() -> None:
    pace = paced(1000)
    pace.observe(1000, 0, 0.0)
    assert pace.chunk_tokens(others_answer=True) == 300


def test_one_slow_step_moves_the_pace_only_part_of_the_way() -> None:
    pace = paced(1000)
    pace.observe(100, 0, 1.0)
    assert 30 < pace.chunk_tokens(others_answer=True) < 300


def test_the_pace_follows_a_lasting_change() -> None:
    pace = paced(1000)
    for _ in range(20):
        pace.observe(100, 0, 1.0)
    assert 30 <= pace.chunk_tokens(others_answer=True) <= 31


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e6])), max_size=10
    ),
    st.booleans(),
)
def test_a_step_is_never_outside_its_bounds(
    steps: list[tuple[int, float]],
    others: bool,
) -> None:
    pace = PrefillPace()
    for tokens, seconds in steps:
        pace.observe(tokens, tokens % 3, seconds)
    assert FEWEST_TOKENS <= pace.chunk_tokens(others_answer=others) <= MOST_TOKENS
