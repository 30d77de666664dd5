"""Sampling: every option changes the distribution as it is defined, and as llama.cpp does it."""

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.llama.sampling import ChainSampler, build_sampler
from inference.engine.model import DecodeError, Logits, UnusableInput
from inference.messages import Sampling

VOCABULARY = 600
WINDOW = 128
# The plain distribution: no filter, no temperature.
PLAIN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}

MakeSampler = Callable[..., ChainSampler]


@pytest.fixture
def make() -> Iterator[MakeSampler]:
    """Builds samplers from options and closes them at the end."""
    made: list[ChainSampler] = []

    def build(seed: int = 1, **options: Any) -> ChainSampler:
        sampler = build_sampler(Sampling(**options), seed, n_vocab=VOCABULARY, window=WINDOW)
        made.append(sampler)
        return sampler

    yield build
    for sampler in made:
        sampler.close()


def _logits(seed: int = 0) -> Logits:
    return np.random.default_rng(seed).normal(0, 2.5, VOCABULARY).astype(np.float32)


def _softmax(logits: Any) -> Any:
    exact = np.asarray(logits, np.float64)
    powers = np.exp(exact - exact.max())
    return powers / powers.sum()


def _dense(found: dict[int, float]) -> Any:
    chances = np.zeros(VOCABULARY)
    chances[list(found)] = list(found.values())
    return chances


def _assert_is(found: dict[int, float], expected: Any) -> None:
    assert _dense(found) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def _kept(chances: Any, keep: Any) -> Any:
    """Return the chances of the tokens in `keep`, the others' shared out."""
    left = np.zeros_like(chances)
    left[keep] = chances[keep]
    return left / left.sum()


# ---------------------------------------------------------------- each option by its definition


def test_without_options_the_distribution_is_the_softmax(make: MakeSampler) -> None:
    _assert_is(make(**PLAIN).probabilities(_logits()), _softmax(_logits()))


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_temperature_divides_the_logits(make: MakeSampler, temperature: float) -> None:
    sampler = make(**PLAIN | {"temperature": temperature})
    _assert_is(sampler.probabilities(_logits()), _softmax(_logits() / temperature))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_zero_takes_the_most_probable(make: MakeSampler, temperature: float) -> None:
    sampler = make(**PLAIN | {"temperature": temperature})
    assert sampler.probabilities(_logits()) == {int(_logits().argmax()): 1.0}


def test_top_k_keeps_the_k_most_probable(make: MakeSampler) -> None:
    chances = _softmax(_logits())
    expected = _kept(chances, np.argsort(-chances)[:7])
    _assert_is(make(**PLAIN | {"top_k": 7}).probabilities(_logits()), expected)


def test_top_p_keeps_the_fewest_that_reach_p(make: MakeSampler) -> None:
    chances = _softmax(_logits())
    best = np.argsort(-chances)
    fewest = int(np.searchsorted(np.cumsum(chances[best]), 0.6)) + 1
    sampler = make(**PLAIN | {"top_p": 0.6})
    _assert_is(sampler.probabilities(_logits()), _kept(chances, best[:fewest]))


@pytest.mark.parametrize("top_p", [1.0, 0.99])
def test_min_p_keeps_those_near_the_most_probable(make: MakeSampler, top_p: float) -> None:
    chances = _softmax(_logits())
    expected = _kept(chances, chances >= 0.2 * chances.max())
    sampler = make(**PLAIN | {"min_p": 0.2, "top_p": top_p})
    _assert_is(sampler.probabilities(_logits()), expected)


def test_typical_p_keeps_those_whose_surprise_is_nearest_the_entropy(make: MakeSampler) -> None:
    chances = _softmax(_logits())
    surprise = -np.log(chances)
    nearest = np.argsort(np.abs(surprise - (chances * surprise).sum()))
    fewest = int(np.searchsorted(np.cumsum(chances[nearest]), 0.4, side="right")) + 1
    sampler = make(**PLAIN | {"typical_p": 0.4})
    _assert_is(sampler.probabilities(_logits()), _kept(chances, nearest[:fewest]))


def test_repeat_penalty_makes_seen_tokens_less_likely_whatever_their_sign(
    make: MakeSampler,
) -> None:
    logits = _logits()
    changed = logits.copy()
    seen = [int(logits.argmax()), int(logits.argmin())]
    changed[seen[0]] /= 1.5
    changed[seen[1]] *= 1.5
    sampler = make(**PLAIN | {"repeat_penalty": 1.5})
    sampler.see(seen)
    _assert_is(sampler.probabilities(logits), _softmax(changed))


def test_frequency_penalty_counts_and_presence_penalty_does_not(make: MakeSampler) -> None:
    changed = _logits()
    changed[5] -= 3 * 0.5 + 0.25
    changed[6] -= 1 * 0.5 + 0.25
    sampler = make(**PLAIN | {"frequency_penalty": 0.5, "presence_penalty": 0.25})
    sampler.see([5, 6, 5, 5])
    _assert_is(sampler.probabilities(_logits()), _softmax(changed))


@pytest.mark.parametrize(("last_n", "penalized"), [(2, [7, 8]), (0, []), (-1, [5, 6, 7, 8])])
def test_repeat_last_n_is_how_far_penalties_look_back(
    make: MakeSampler, last_n: int, penalized: list[int]
) -> None:
    changed = _logits()
    changed[penalized] -= 2
    sampler = make(**PLAIN | {"presence_penalty": 2.0, "repeat_last_n": last_n})
    sampler.see([5, 6, 7, 8])
    _assert_is(sampler.probabilities(_logits()), _softmax(changed))


def test_penalties_look_back_no_further_than_the_window(make: MakeSampler) -> None:
    changed = _logits()
    changed[1 : 1 + WINDOW] -= 2
    sampler = make(**PLAIN | {"presence_penalty": 2.0, "repeat_last_n": 10**9})
    sampler.see(range(1 + WINDOW))
    _assert_is(sampler.probabilities(_logits()), _softmax(changed))


def test_chosen_tokens_are_penalized_in_turn(make: MakeSampler) -> None:
    logits = _logits()
    sampler = make(temperature=0.0, presence_penalty=1000.0)
    chosen = [sampler.choose(logits) for _ in range(5)]
    assert chosen == np.argsort(-logits)[:5].tolist()


def test_images_in_a_prompt_are_not_penalized(make: MakeSampler) -> None:
    sampler = make(**PLAIN | {"presence_penalty": 2.0})
    sampler.see([-1, VOCABULARY])
    _assert_is(sampler.probabilities(_logits()), _softmax(_logits()))


def test_logit_bias_is_added_before_anything_is_filtered(make: MakeSampler) -> None:
    logits = _logits()
    weakest = int(logits.argmin())
    sampler = make(**PLAIN | {"top_k": 1, "logit_bias": ((weakest, 60.0), (weakest, 40.0))})
    assert sampler.probabilities(logits) == {weakest: 1.0}


def test_a_bias_of_minus_hundred_bans_a_token_from_greedy_answers(make: MakeSampler) -> None:
    logits = _logits()
    best, second = np.argsort(-logits)[:2].tolist()
    assert make(temperature=0.0, logit_bias=((best, -100.0),)).choose(logits) == second


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_keeps_the_mean_surprise_at_tau(make: MakeSampler, version: int) -> None:
    logits = _logits()
    surprise = -np.log2(_softmax(logits))
    sampler = make(temperature=1.0, top_k=1, mirostat=version, mirostat_tau=4.0)
    chosen = [sampler.choose(logits) for _ in range(600)]
    # What version 1 and 2 measure is the surprise among what they keep, a little less than this.
    assert np.mean(surprise[chosen[200:]]) == pytest.approx(4.0, abs=0.7)


def test_mirostat_starts_at_twice_tau(make: MakeSampler) -> None:
    chances = _softmax(_logits())
    expected = _kept(chances, -np.log2(chances) <= 6.0)
    sampler = make(temperature=1.0, mirostat=2, mirostat_tau=3.0)
    _assert_is(sampler.probabilities(_logits()), expected)


def test_mirostat_learns_at_the_rate_eta(make: MakeSampler) -> None:
    slow = make(temperature=1.0, mirostat=2, mirostat_tau=1.0, mirostat_eta=0.0)
    quick = make(temperature=1.0, mirostat=2, mirostat_tau=1.0, mirostat_eta=1.0)
    logits = np.zeros(VOCABULARY, np.float32)
    logits[:4] = 20
    for sampler in (slow, quick):
        sampler.choose(logits)
    # All four are surprising by 2 bits: more than tau, so the limit of 2 sinks below them.
    assert len(slow.probabilities(logits)) == 4
    assert len(quick.probabilities(logits)) == 1


# ---------------------------------------------------------------- draws


def test_tokens_come_as_often_as_their_chances_say(make: MakeSampler) -> None:
    logits = _logits()
    chances = _dense(make().probabilities(logits))
    sampler = make(seed=7)
    draws = 4000
    counts = np.bincount([sampler.choose(logits) for _ in range(draws)], minlength=VOCABULARY)
    deviation = np.sqrt(draws * chances * (1 - chances))
    assert np.all(np.abs(counts - draws * chances) <= 5 * deviation)


def test_the_same_seed_makes_the_same_choices(make: MakeSampler) -> None:
    rows = [_logits(seed) for seed in range(40)]
    first, again, other = make(seed=3), make(seed=3), make(seed=4)
    chosen = [first.choose(row) for row in rows]
    assert chosen == [again.choose(row) for row in rows]
    assert chosen != [other.choose(row) for row in rows]


def test_a_seed_of_any_size_is_taken(make: MakeSampler) -> None:
    small, large = make(seed=5), make(seed=5 + 2**40)
    assert [small.choose(_logits(n)) for n in range(9)] == [
        large.choose(_logits(n)) for n in range(9)
    ]


def test_logits_are_only_read(make: MakeSampler) -> None:
    logits = _logits()
    sampler = make(repeat_penalty=1.3, logit_bias=((3, 5.0),))
    sampler.see([1, 2, 3])
    sampler.choose(logits)
    assert np.array_equal(logits, _logits())


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.0}, {"top_k": 0}, {"typical_p": 0.5}, {"mirostat": 1}, {"mirostat": 2}],
)
def test_only_what_a_mask_has_left_is_chosen(make: MakeSampler, options: dict[str, Any]) -> None:
    logits = np.full(VOCABULARY, -np.inf, np.float32)
    logits[[9, 500]] = [1, 2]
    sampler = make(**options)
    assert {sampler.choose(logits) for _ in range(50)} <= {9, 500}


@pytest.mark.parametrize("value", [-np.inf, np.nan])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"top_k": 0}, {"mirostat": 1}])
def test_where_nothing_can_be_chosen_the_request_fails(
    make: MakeSampler, value: float, options: dict[str, Any]
) -> None:
    with pytest.raises(DecodeError):
        make(**options).choose(np.full(VOCABULARY, value, np.float32))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_a_bias_on_an_unknown_token_is_refused(make: MakeSampler, token: int) -> None:
    with pytest.raises(UnusableInput, match=f"there is no token {token}"):
        make(logit_bias=((token, 1.0),))


def test_a_bias_that_is_no_number_is_refused(make: MakeSampler) -> None:
    with pytest.raises(UnusableInput, match="logit_bias"):
        make(logit_bias=((1, math.nan),))


@pytest.mark.parametrize("name", ["temperature", "top_p", "repeat_penalty", "mirostat_tau"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_option_that_is_no_number_is_refused(make: MakeSampler, name: str, value: float) -> None:
    with pytest.raises(UnusableInput, match=name):
        make(**{name: value})


def test_closing_twice_is_harmless(make: MakeSampler) -> None:
    sampler = make()
    sampler.close()
    sampler.close()


# ---------------------------------------------------------------- against llama.cpp's own chain

_FLOATS = st.floats(-1e30, 1e30)
_ANY_OPTIONS = st.builds(
    Sampling,
    temperature=_FLOATS,
    top_k=st.integers(-(2**40), 2**40),
    top_p=_FLOATS,
    min_p=_FLOATS,
    typical_p=_FLOATS,
    repeat_last_n=st.integers(-(2**40), 2**40),
    repeat_penalty=_FLOATS,
    presence_penalty=_FLOATS,
    frequency_penalty=_FLOATS,
    mirostat=st.integers(-1, 3),
    mirostat_tau=_FLOATS,
    mirostat_eta=_FLOATS,
    logit_bias=st.lists(st.tuples(st.integers(0, VOCABULARY - 1), _FLOATS), max_size=3).map(tuple),
)


@given(options=_ANY_OPTIONS)
def test_no_option_however_wild_breaks_the_choice(options: Sampling) -> None:
    sampler = build_sampler(options, 1, n_vocab=VOCABULARY, window=WINDOW)
    sampler.see([1, 2, 3])
    assert all(0 <= sampler.choose(_logits(n)) < VOCABULARY for n in range(3))
    sampler.close()


_USUAL_OPTIONS = st.builds(
    Sampling,
    temperature=st.floats(0.1, 2),
    top_k=st.sampled_from([0, 1, 5, 40, VOCABULARY, 5000]),
    top_p=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    typical_p=st.sampled_from([0.5, 1.0]),
    repeat_last_n=st.sampled_from([0, 3, 64]),
    repeat_penalty=st.sampled_from([1.0, 1.1, 0.8]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, -0.5]),
    mirostat=st.sampled_from([0, 0, 1, 2]),
    logit_bias=st.sampled_from([(), ((4, 2.0), (90, -3.0))]),
)


def _chosen_by_llama(
    options: Sampling, seed: int, rows: Sequence[Logits], seen: Sequence[int]
) -> list[int]:
    """Return the choices of a chain of llama.cpp's samplers alone, over the whole vocabulary."""
    bias = (lib.llama_logit_bias * 2)(*(lib.llama_logit_bias(*each) for each in options.logit_bias))
    parts = [
        lib.llama_sampler_init_logit_bias(VOCABULARY, len(options.logit_bias), bias),
        lib.llama_sampler_init_penalties(
            VOCABULARY,
            options.repeat_last_n,
            options.repeat_penalty,
            options.frequency_penalty,
            options.presence_penalty,
        ),
    ]
    temperature = lib.llama_sampler_init_temp(options.temperature)
    tau, eta = options.mirostat_tau, options.mirostat_eta
    if options.mirostat == 1:
        parts += [temperature, lib.llama_sampler_init_mirostat(VOCABULARY, seed, tau, eta, 100)]
    elif options.mirostat == 2:
        parts += [temperature, lib.llama_sampler_init_mirostat_v2(seed, tau, eta)]
    else:
        parts += [
            lib.llama_sampler_init_top_k(options.top_k),
            lib.llama_sampler_init_typical(options.typical_p, 1),
            lib.llama_sampler_init_top_p(options.top_p, 1),
            lib.llama_sampler_init_min_p(options.min_p, 1),
            temperature,
            lib.llama_sampler_init_dist(seed),
        ]
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for part in parts:
        lib.llama_sampler_chain_add(chain, part)
    for token in seen:
        lib.llama_sampler_accept(chain, token)
    chosen = []
    tokens = np.zeros(VOCABULARY, [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    data = ctypes.cast(tokens.ctypes.data, lib.llama_token_data_p)
    for row in rows:
        tokens["id"], tokens["logit"] = np.arange(VOCABULARY), row
        array: Any = lib.llama_token_data_array(data, VOCABULARY, -1, False)
        lib.llama_sampler_apply(chain, ctypes.byref(array))
        chosen.append(int(array.data[array.selected].id))
        lib.llama_sampler_accept(chain, chosen[-1])
    lib.llama_sampler_free(chain)
    return chosen


@given(options=_USUAL_OPTIONS, seed=st.integers(0, 1000))
def test_choices_are_those_of_llama_cpp(options: Sampling, seed: int) -> None:
    rows = [_logits(seed + n) for n in range(4)]
    seen = [4, 5, 4, 100]
    sampler = build_sampler(options, seed, n_vocab=VOCABULARY, window=WINDOW)
    sampler.see(seen)
    chosen = [sampler.choose(row) for row in rows]
    sampler.close()
    assert chosen == _chosen_by_llama(options, seed, rows, seen)
