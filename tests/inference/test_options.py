"""The option table: types, precedence, what is ignored."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import options
from inference.errors import InvalidOption
from inference.messages import Sampling

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def test_the_request_wins_over_the_model_and_null_means_not_given() -> None:
    merged = options.merge({"top_k": 5, "seed": 1}, {"top_k": 9, "seed": None})
    assert merged == {"top_k": 9, "seed": 1}


def test_a_stop_list_of_the_request_replaces_the_models() -> None:
    assert options.merge({"stop": ["a"]}, {"stop": ["b"]}) == {"stop": ("b",)}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("num_ctx", "x", 'option "num_ctx" must be of type integer'),
        ("num_ctx", True, 'option "num_ctx" must be of type integer'),
        ("temperature", "hot", 'option "temperature" must be of type float32'),
        ("temperature", float("nan"), 'option "temperature" must be a finite number'),
        ("num_predict", float("inf"), 'option "num_predict" must be a finite number'),
        ("use_mmap", 1, 'option "use_mmap" must be of type boolean'),
        ("stop", "x", 'option "stop" must be of type array'),
        ("stop", [1], 'option "stop" must be of an array of strings'),
    ],
)
def test_a_wrong_type_is_refused_in_ollamas_words(name: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidOption, match=text):
        options.merge({}, {name: value})


def test_a_wrong_type_in_the_models_parameters_does_not_break_requests() -> None:
    assert options.merge({"top_k": "many", "seed": 3}, {}) == {"seed": 3}


def test_unknown_and_internal_names_are_ignored() -> None:
    assert options.merge({}, {"n_discard": -5, "id_slot": 3, "Temperature": 1}) == {}


def test_integers_take_any_number_and_drop_the_fraction() -> None:
    assert options.merge({}, {"top_k": 3.9, "num_predict": 10**30}) == {
        "top_k": 3,
        "num_predict": 2**31 - 1,
    }


@pytest.mark.parametrize("value", [0, -1, -2])
def test_num_predict_without_a_limit(value: int) -> None:
    assert options.sampling({"num_predict": value}).num_predict is None


def test_defaults_are_todays_ollamas() -> None:
    assert options.sampling({}) == Sampling()
    assert Sampling().temperature == 0.8
    assert Sampling().repeat_penalty == 1.0


def test_empty_stop_strings_are_dropped() -> None:
    assert options.sampling({"stop": ("", "x")}).stop == ("x",)


def test_a_tiny_window_is_raised_to_the_minimum() -> None:
    assert options.runner_options({"num_ctx": -3}, default_num_ctx=4096).num_ctx == 4
    assert options.runner_options({}, default_num_ctx=4096).num_ctx == 4096


@given(st.dictionaries(st.sampled_from(sorted(options._READERS)), JSON))
def test_any_json_in_options_is_taken_or_refused(values: dict[str, Any]) -> None:
    try:
        merged = options.merge({}, values)
    except InvalidOption:
        return
    options.sampling(merged)
    options.runner_options(merged, default_num_ctx=4096)
