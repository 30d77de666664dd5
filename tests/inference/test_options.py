"""The option table: types, ranges, precedence, what is ignored."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from inference import options
from inference.errors import InvalidOption
from inference.messages import RunnerOptions, Sampling

INT32 = 2**31 - 1
INTERNAL = ["n_discard", "id_slot", "cache_prompt", "lora", "grammar", "json_schema", "n_probs"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
NUMBERS = st.integers() | st.floats() | st.just(10**400)


def read(**values: Any) -> tuple[RunnerOptions, Sampling]:
    merged = options.merge({}, values)
    return options.runner_options(merged, default_num_ctx=4096), options.sampling(merged)


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
        ("stop", ["x"] * 257, 'option "stop" must be of at most 256 strings'),
        ("mirostat", "2", 'option "mirostat" must be of type integer'),
        ("mirostat_tau", [], 'option "mirostat_tau" must be of type float32'),
        ("draft_num_predict", {}, 'option "draft_num_predict" must be of type integer'),
    ],
)
def test_a_wrong_type_is_refused_in_ollamas_words(name: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidOption, match=text) as caught:
        options.merge({}, {name: value})
    assert caught.value.param == name


def test_a_wrong_type_in_the_models_parameters_does_not_break_requests() -> None:
    assert options.merge({"top_k": "many", "seed": 3}, {}) == {"seed": 3}


def test_unknown_and_internal_names_are_ignored() -> None:
    given_ = dict.fromkeys(INTERNAL, 3) | {"Temperature": 1}
    assert options.merge(given_, given_) == {}


def test_integers_take_any_number_and_drop_the_fraction() -> None:
    assert options.merge({}, {"top_k": 3.9, "num_predict": 10**30}) == {
        "top_k": 3,
        "num_predict": INT32,
    }


@pytest.mark.parametrize("value", [0, -1, -2])
def test_num_predict_without_a_limit(value: int) -> None:
    assert read(num_predict=value)[1].num_predict is None


def test_no_limit_of_the_request_takes_the_models_away() -> None:
    merged = options.merge({"num_predict": 5}, {"num_predict": -1})
    assert options.sampling(merged).num_predict is None


def test_defaults_are_todays_ollamas() -> None:
    assert options.sampling({}) == Sampling()
    assert Sampling().temperature == 0.8
    assert Sampling().repeat_penalty == 1.0


def test_empty_stop_strings_are_dropped() -> None:
    assert read(stop=["", "x"])[1].stop == ("x",)


def test_a_window_not_asked_for_is_the_default() -> None:
    assert options.runner_options({}, default_num_ctx=4096).num_ctx == 4096


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_ctx", -3, 4),
        ("num_ctx", 1e30, 2**24),
        ("num_batch", 0, 512),
        ("num_batch", -7, 512),
        ("num_batch", 10**9, 4096),
        ("num_thread", 0, None),
        ("num_thread", -1, None),
        ("num_thread", 10**9, 512),
        ("num_gpu", -1, None),
        ("num_gpu", 0, 0),
        ("main_gpu", -1, None),
        ("main_gpu", 1, 1),
        ("rope_frequency_base", 0, None),
        ("rope_frequency_base", 1_000_000, 1_000_000.0),
        ("rope_frequency_scale", -1, None),
        ("rope_frequency_scale", 0.5, 0.5),
        ("f16_kv", False, False),
        ("use_mlock", True, True),
        ("numa", True, True),
        ("use_mmap", False, False),
    ],
)
def test_runner_option_takes_effect_within_its_range(name: str, value: Any, expected: Any) -> None:
    assert getattr(read(**{name: value})[0], name) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temperature", -1, 0.0),
        ("temperature", 1e300, 100.0),
        ("top_k", 10**20, INT32),
        ("top_k", -5, 0),
        ("top_p", 7, 1.0),
        ("min_p", -0.5, 0.0),
        ("typical_p", 2, 1.0),
        ("repeat_last_n", 10**12, 2**18),
        ("repeat_last_n", -9, -1),
        ("repeat_penalty", 0, 0.01),
        ("presence_penalty", 1e30, 100.0),
        ("frequency_penalty", -1e30, -100.0),
        ("num_keep", -4, -1),
        ("num_keep", 10**12, INT32),
        ("seed", -1, None),
        ("seed", 2**32 - 1, 0),
        ("seed", 4_000_000_000, 4_000_000_000),
        ("mirostat", 2, 2),
        ("mirostat", 3, 0),
        ("mirostat_tau", -1, 0.0),
        ("mirostat_eta", 0.2, 0.2),
    ],
)
def test_sampling_option_takes_effect_within_its_range(
    name: str, value: Any, expected: Any
) -> None:
    assert getattr(read(**{name: value})[1], name) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_gqa", 8),
        ("num_gqa", "eight"),
        ("low_vram", True),
        ("logits_all", "x"),
        ("vocab_only", 0),
        ("tfs_z", []),
        ("penalize_newline", {}),
        ("draft_num_predict", 4),
    ],
)
def test_option_without_effect_changes_nothing(name: str, value: Any) -> None:
    assert read(**{name: value}) == read()


def test_readme_gives_the_reason_of_every_option_without_effect() -> None:
    readme = (Path(settings.BASE_DIR) / "README.md").read_text()
    assert [name for name in options.WITHOUT_EFFECT if f"`{name}`" not in readme] == []


def assert_in_range(runner: RunnerOptions, sampling: Sampling) -> None:
    assert 4 <= runner.num_ctx <= 2**24
    assert 1 <= runner.num_batch <= 4096
    assert runner.num_thread is None or 1 <= runner.num_thread <= 512
    assert runner.num_gpu is None or 0 <= runner.num_gpu <= 10_000
    assert runner.main_gpu is None or 0 <= runner.main_gpu <= 255
    for scale in (runner.rope_frequency_base, runner.rope_frequency_scale):
        assert scale is None or 0 < scale <= 1e12
    assert sampling.num_predict is None or 1 <= sampling.num_predict <= INT32
    assert sampling.seed is None or 0 <= sampling.seed < 2**32 - 1
    assert -1 <= sampling.num_keep <= INT32
    assert 0 <= sampling.top_k <= INT32
    assert -1 <= sampling.repeat_last_n <= 2**18
    assert sampling.mirostat in {0, 1, 2}
    for share in (sampling.top_p, sampling.min_p, sampling.typical_p):
        assert 0 <= share <= 1
    numbers = (
        sampling.temperature,
        sampling.repeat_penalty,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        sampling.mirostat_tau,
        sampling.mirostat_eta,
    )
    assert all(math.isfinite(number) and abs(number) <= 100 for number in numbers)
    assert sampling.repeat_penalty > 0
    assert sampling.temperature >= 0
    assert all(sampling.stop)


NAMES = st.sampled_from([*sorted(options._READERS), *INTERNAL]) | st.text()


REFUSAL = re.compile(r'option "\w+" must be (of type|of an array|of at most|a finite)')


@given(st.dictionaries(NAMES, JSON | NUMBERS, max_size=8))
def test_any_json_in_options_is_refused_or_brought_into_range(values: dict[str, Any]) -> None:
    try:
        asked = read(**values)
    except InvalidOption as error:
        message = error.message
    else:
        assert_in_range(*asked)
        return
    assert REFUSAL.match(message)


@given(st.dictionaries(st.sampled_from(sorted(options._READERS)), JSON, max_size=8))
def test_any_json_in_a_models_parameters_is_ignored_or_brought_into_range(
    values: dict[str, Any],
) -> None:
    merged = options.merge(values, {})
    runner = options.runner_options(merged, default_num_ctx=4096)
    assert_in_range(runner, options.sampling(merged))
