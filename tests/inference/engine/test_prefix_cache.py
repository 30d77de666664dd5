"""Which tokens may be taken over, and the states that are kept in RAM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.prefix_cache import Cells, Owner, PrefixStore, common_prefix

ALICE = Owner("user alice", "m1")
BOB = Owner("user bob", "m1")
BOB_ELSEWHERE = Owner("user bob", "m2")
TOKENS = list(range(100))


def longest_common_prefix(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), 10**9)


@given(
    st.lists(st.integers(0, 2), max_size=40),
    st.lists(st.integers(0, 2), max_size=40),
    st.integers(-3, 60),
)
def test_halving_finds_the_longest_common_prefix(
    first: list[int], second: list[int], limit: int
) -> None:
    most = max(0, min(limit, len(first), len(second)))
    found = common_prefix(first, second, most)
    assert found == min(most, longest_common_prefix(first, second))


def test_the_same_user_takes_over_everything_but_the_last_token() -> None:
    assert Cells(ALICE, TOKENS).usable(ALICE, TOKENS, 0) == 99


def test_a_longer_prompt_takes_over_all_that_is_there() -> None:
    assert Cells(ALICE, TOKENS[:50]).usable(ALICE, TOKENS, 0) == 50


def test_another_users_tokens_are_never_taken_over() -> None:
    assert Cells(ALICE, TOKENS, own=0).usable(BOB, TOKENS, 0) == 0


def test_another_user_takes_over_the_manifests_own_tokens_only() -> None:
    assert Cells(ALICE, TOKENS, own=40).usable(BOB, TOKENS, 40) == 40


@pytest.mark.parametrize(("theirs", "mine"), [(40, 10), (10, 40)])
def test_tokens_are_the_manifests_only_if_they_are_so_on_both_sides(theirs: int, mine: int) -> None:
    assert Cells(ALICE, TOKENS, own=theirs).usable(BOB, TOKENS, mine) == 10


def test_another_model_on_the_same_weights_shares_nothing_between_users() -> None:
    assert Cells(ALICE, TOKENS, own=40).usable(BOB_ELSEWHERE, TOKENS, 40) == 0


def test_a_cache_group_shares_everything() -> None:
    team = Owner("team", "m1")
    assert Cells(team, TOKENS).usable(Owner("team", "m1"), TOKENS, 0) == 99


def test_behind_a_context_shift_nothing_is_used_again() -> None:
    assert Cells(ALICE, TOKENS, intact=7).usable(ALICE, TOKENS, 0) == 7


def stored(*lengths: int, limit: int = 1000) -> PrefixStore:
    """A store with states of distinct prompts, 100 bytes each."""
    store = PrefixStore(limit)
    for number, length in enumerate(lengths):
        store.put(Cells(ALICE, [1000 + number] * length), bytes(100))
    return store


def saved_by(store: PrefixStore, number: int) -> int:
    return store.best(ALICE, [1000 + number] * 200, 0)[0]


def test_the_best_state_is_found_and_taken() -> None:
    store = PrefixStore(1000)
    store.put(Cells(ALICE, TOKENS[:40]), b"short")
    store.put(Cells(BOB, TOKENS[:80]), b"bob's")
    found, key = store.best(ALICE, TOKENS, 0)
    assert found == 40
    assert store.take(key)[1] == b"short"


def test_an_empty_store_has_nothing() -> None:
    assert PrefixStore(1000).best(ALICE, TOKENS, 0)[0] == 0


def test_the_store_never_takes_more_bytes_than_it_may() -> None:
    store = stored(*[50] * 9, limit=450)
    assert store.used_bytes == 400
    assert len(store) == 4


def test_the_least_recently_used_state_goes_first() -> None:
    store = stored(50, 50, 50, limit=300)
    store.take(store.best(ALICE, [1000] * 200, 0)[1])
    store.put(Cells(ALICE, TOKENS), bytes(100))
    assert saved_by(store, 0) == 50
    assert saved_by(store, 1) == 0
    assert saved_by(store, 2) == 50


def test_a_state_larger_than_the_store_is_not_kept() -> None:
    store = stored(50, limit=300)
    store.put(Cells(ALICE, TOKENS), bytes(301))
    assert saved_by(store, 0) == 50
    assert len(store) == 1


def test_a_store_without_bytes_keeps_nothing() -> None:
    assert len(stored(50, limit=0)) == 0


def test_a_longer_state_replaces_the_ones_it_contains() -> None:
    store = PrefixStore(1000)
    store.put(Cells(ALICE, TOKENS[:40]), bytes(10))
    store.put(Cells(ALICE, TOKENS[:80]), bytes(20))
    assert store.used_bytes == 20
    assert store.best(ALICE, TOKENS, 0)[0] == 80


def test_another_users_longer_state_replaces_nothing() -> None:
    store = PrefixStore(1000)
    store.put(Cells(ALICE, TOKENS[:40]), bytes(10))
    store.put(Cells(BOB, TOKENS[:80]), bytes(20))
    assert store.best(ALICE, TOKENS, 0)[0] == 40


def test_the_number_of_states_is_bounded_too() -> None:
    store = PrefixStore(10**6)
    for number in range(300):
        store.put(Cells(ALICE, [number] * 50), b"")
    assert len(store) == 256


def test_too_few_tokens_are_not_worth_a_restored_state() -> None:
    store = stored(50)
    assert store.best(ALICE, [*[1000] * 31, *TOKENS], 0)[0] == 0


def test_a_long_state_is_not_copied_for_a_small_part_of_it() -> None:
    store = stored(5000)
    assert store.best(ALICE, [*[1000] * 40, *TOKENS], 0)[0] == 0
