"""Slots of the KV cache: what is taken over in place, copied, restored, left in RAM."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference.engine.model import Chunk
from inference.engine.prefix_cache import Owner
from inference.engine.prompt import Prompt
from inference.engine.slots import Slots
from tests.inference.engine.fake_model import FakeImage, FakeModel

ALICE = Owner("user alice", "m1")
BOB = Owner("user bob", "m1")
A_MEGABYTE = 1 << 20


class Bench:
    """Slots whose requests compute their whole line at once."""

    def __init__(self, parallel: int = 2, store_bytes: int = 0) -> None:
        self.model = FakeModel(window_tokens=4000, batch_tokens=4000)
        self.slots = Slots(self.model, parallel=parallel, store_bytes=store_bytes)

    def begin(self, line: list[int], owner: Owner = ALICE, own: int = 0) -> tuple[int, int]:
        """Let a line have a slot; return it and what was taken over."""
        slot, reused = self.slots.acquire(owner, Prompt(line, own=own), line)
        self.model.decode([Chunk(slot, reused, line[reused:], wants_logits=True)])
        self.slots.grow(slot, line[reused:], own)
        return slot, reused

    def serve(self, line: list[int], owner: Owner = ALICE, own: int = 0) -> int:
        """Let a line come and go; return how many tokens were taken over."""
        slot, reused = self.begin(line, owner, own)
        self.slots.release(slot)
        return reused


def line(*runs: tuple[int, int]) -> list[int]:
    """Return runs of a token, each given with its length."""
    return [token for token, length in runs for _ in range(length)]


SHARED = (1, 100)


def test_the_same_line_again_is_taken_over_in_place() -> None:
    bench = Bench()
    bench.serve(line(SHARED, (2, 10)))
    assert bench.serve(line(SHARED, (2, 10))) == 109
    assert bench.model.saved == []


def test_a_next_turn_takes_over_the_whole_last_one() -> None:
    bench = Bench()
    bench.serve(line(SHARED))
    assert bench.serve(line(SHARED, (2, 10))) == 100


def test_a_line_is_copied_from_a_busy_slot() -> None:
    bench = Bench()
    first, _ = bench.begin(line(SHARED, (2, 10)))
    second, reused = bench.begin(line(SHARED, (3, 10)))
    assert reused == 100
    assert bench.model.cells[first] == line(SHARED, (2, 10))
    assert bench.model.cells[second] == line(SHARED, (3, 10))


def test_few_tokens_are_not_copied() -> None:
    bench = Bench()
    bench.begin(line((1, 31), (2, 10)))
    assert bench.begin(line((1, 31), (3, 10)))[1] == 0
    assert bench.model.saved == []


def test_a_long_sequence_is_not_copied_for_a_small_part_of_it() -> None:
    bench = Bench()
    bench.begin(line((1, 40), (2, 2000)))
    assert bench.begin(line((1, 40), (3, 10)))[1] == 0
    assert bench.model.saved == []


def test_another_conversation_goes_to_an_empty_slot_and_the_first_stays() -> None:
    bench = Bench()
    bench.serve(line((1, 5), (2, 500)))
    bench.serve(line((1, 5), (3, 500)))
    assert bench.model.saved == []
    assert bench.serve(line((1, 5), (2, 500), (4, 5))) == 505
    assert bench.serve(line((1, 5), (3, 500), (4, 5))) == 505


def test_a_branch_of_a_conversation_leaves_the_longer_one_alone() -> None:
    bench = Bench()
    bench.serve(line(SHARED, (2, 500)))
    assert bench.serve(line(SHARED, (3, 10))) == 100
    assert bench.serve(line(SHARED, (2, 500), (4, 5))) == 600


def test_the_longest_unused_slot_is_given_away() -> None:
    bench = Bench(parallel=3)
    for token in (2, 3, 4):
        bench.serve(line((token, 100)))
    bench.serve(line((2, 100)))
    bench.serve(line((5, 100)))
    assert bench.serve(line((2, 100))) == 99
    assert bench.serve(line((4, 100))) == 99


def test_something_new_goes_beside_who_is_busy_so_that_they_are_computed_together() -> None:
    bench = Bench(parallel=6, store_bytes=A_MEGABYTE)
    for token in range(6):
        bench.serve(line((token + 1, 100)))
    busy, _ = bench.begin(line((3, 100)))  # continues where it was
    assert busy == 2
    chosen = [bench.begin(line((token, 100)))[0] for token in (11, 12)]
    assert chosen == [1, 0]  # each beside a busy one, of these the longest unused
    assert bench.serve(line((2, 100), (9, 1))) == 100  # what had to go is restored from RAM


def test_a_few_shared_tokens_do_not_cost_another_conversation_its_slot() -> None:
    bench = Bench()
    bench.serve(line((2, 300)), BOB)
    bench.serve(line((1, 5), (3, 300)))
    bench.serve(line((1, 5), (4, 300)))
    assert bench.serve(line((1, 5), (3, 300))) == 304


def test_with_one_slot_the_common_part_is_kept() -> None:
    bench = Bench(parallel=1)
    bench.serve(line((1, 40), (2, 2000)))
    assert bench.serve(line((1, 40), (3, 10))) == 40
    assert bench.model.saved == []


def test_what_leaves_its_slot_is_restored_from_ram() -> None:
    bench = Bench(parallel=1, store_bytes=A_MEGABYTE)
    bench.serve(line(SHARED, (2, 50)))
    bench.serve(line((3, 100)))
    assert bench.serve(line(SHARED, (2, 50), (4, 5))) == 150
    assert bench.model.cells[0] == line(SHARED, (2, 50), (4, 5))


def test_a_state_in_ram_can_be_restored_more_than_once() -> None:
    bench = Bench(parallel=1, store_bytes=A_MEGABYTE)
    bench.serve(line(SHARED, (2, 50)))
    for token in (3, 4, 5):
        bench.serve(line((token, 100)))
        assert bench.serve(line(SHARED, (2, 50), (token, 50))) == 150


def test_what_is_overwritten_in_place_is_left_in_ram() -> None:
    bench = Bench(parallel=1, store_bytes=A_MEGABYTE)
    bench.serve(line(SHARED, (2, 100)))
    bench.serve(line(SHARED, (3, 10)))
    assert bench.serve(line(SHARED, (2, 100), (4, 5))) == 200


def test_without_a_store_nothing_is_restored() -> None:
    bench = Bench(parallel=1)
    bench.serve(line(SHARED))
    bench.serve(line((3, 100)))
    assert bench.serve(line(SHARED)) == 0


def test_another_users_tokens_are_not_taken_over_from_anywhere() -> None:
    bench = Bench(parallel=1, store_bytes=A_MEGABYTE)
    bench.serve(line(SHARED), ALICE)
    assert bench.serve(line(SHARED), BOB) == 0
    bench.serve(line((3, 100)), BOB)
    assert bench.serve(line(SHARED), Owner("user carol", "m1")) == 0


def test_the_manifests_own_tokens_are_taken_over_from_anybody() -> None:
    bench = Bench()
    bench.begin(line(SHARED, (2, 10)), ALICE, own=60)
    assert bench.begin(line(SHARED, (2, 10)), BOB, own=60)[1] == 60


def test_tokens_taken_over_stay_the_manifests_for_the_next() -> None:
    bench = Bench(parallel=1)
    for name in ("alice", "bob", "carol"):
        reused = bench.serve(line(SHARED, (2, 10)), Owner(f"user {name}", "m1"), own=60)
    assert reused == 60


def test_what_was_taken_over_is_not_shared_further_than_before() -> None:
    bench = Bench(parallel=1)
    bench.serve(line(SHARED), ALICE, own=60)
    bench.serve(line((1, 60), (7, 40)), BOB, own=60)
    assert bench.serve(line((1, 60), (7, 40)), ALICE, own=60) == 60


def test_a_spoiled_slot_is_empty() -> None:
    bench = Bench(parallel=1)
    slot, _ = bench.begin(line(SHARED))
    bench.slots.spoil(slot)
    assert bench.serve(line(SHARED)) == 0


def test_what_lies_behind_a_shift_is_not_taken_over_nor_kept_in_ram() -> None:
    bench = Bench(parallel=1, store_bytes=A_MEGABYTE)
    slot, _ = bench.begin(line((1, 40), (2, 100)))
    bench.model.shift(slot, 40, 50)
    bench.slots.shifted(slot, 40, line((1, 40), (2, 50)))
    bench.slots.release(slot)
    assert bench.serve(line((3, 100))) == 0
    assert bench.serve(line((1, 40), (2, 50))) == 0
    assert bench.model.saved == [0]  # of (3, 100)


def test_the_part_before_a_shift_is_taken_over() -> None:
    bench = Bench(parallel=1)
    slot, _ = bench.begin(line((1, 40), (2, 100)))
    bench.model.shift(slot, 40, 50)
    bench.slots.shifted(slot, 40, line((1, 40), (2, 50)))
    bench.slots.release(slot)
    assert bench.serve(line((1, 40), (2, 50))) == 40


def test_a_model_that_cannot_keep_a_part_computes_all() -> None:
    bench = Bench(store_bytes=A_MEGABYTE)
    bench.model.can_keep = False
    bench.begin(line(SHARED))
    assert bench.serve(line(SHARED, (2, 10))) == 0
    assert bench.serve(line(SHARED, (2, 10))) == 0


def test_a_state_that_cannot_be_restored_is_computed_again() -> None:
    class Forgetful(FakeModel):
        def restore(self, sequence: int, state: bytes) -> bool:
            self.forget(sequence)
            return False

    bench = Bench(parallel=1, store_bytes=A_MEGABYTE)
    bench.model = Forgetful(window_tokens=4000, batch_tokens=4000)
    bench.slots = Slots(bench.model, parallel=1, store_bytes=A_MEGABYTE)
    bench.serve(line(SHARED))
    bench.serve(line((3, 100)))
    assert bench.serve(line(SHARED)) == 0
    assert bench.model.cells[0] == line(SHARED)


def test_a_part_of_an_image_is_not_taken_over() -> None:
    bench = Bench(parallel=1)
    image = FakeImage(b"\x05")
    first = Prompt([7, 7, image.token, image.token, image.token, 8], images={2: image})
    slot, _ = bench.slots.acquire(ALICE, first, first.tokens)
    bench.model.decode([Chunk(slot, 0, [7, 7], wants_logits=False)])
    bench.model.decode_image(slot, 2, image)
    bench.model.decode([Chunk(slot, 4, [8], wants_logits=True)])
    bench.slots.grow(slot, first.tokens, 0)
    bench.slots.release(slot)
    second = Prompt([*first.tokens[:5]], images=first.images)
    assert bench.slots.acquire(ALICE, second, second.tokens) == (0, 2)
    assert bench.model.positions[0] == 2


def test_what_could_be_taken_over_is_known_before() -> None:
    bench = Bench()
    bench.begin(line(SHARED, (2, 10)))
    wanted = line(SHARED, (3, 10))
    assert bench.slots.reusable(ALICE, Prompt(wanted), wanted) == 100


class SlotsMachine(RuleBasedStateMachine):
    """Whatever comes and goes, in whatever order, the slots know what the model holds."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(parallel=3, store_bytes=3000)
        self.busy: list[int] = []

    @precondition(lambda self: self.bench.slots.has_free)
    @rule(
        prefix=st.sampled_from([0, 20, 40, 80]),
        token=st.integers(2, 5),
        length=st.sampled_from([1, 30, 60]),
        owner=st.sampled_from([ALICE, BOB, Owner("user bob", "m2")]),
        own=st.sampled_from([0, 10, 40]),
    )
    def begin(self, prefix: int, token: int, length: int, owner: Owner, own: int) -> None:
        wanted = line((1, prefix), (token, length))
        slot, reused = self.bench.begin(wanted, owner, min(own, prefix))
        assert reused < len(wanted)
        assert self.bench.model.cells[slot] == wanted
        self.busy.append(slot)

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), is_spoiled=st.booleans())
    def end(self, data: st.DataObject, is_spoiled: bool) -> None:
        slot = self.busy.pop(data.draw(st.integers(0, len(self.busy) - 1)))
        if is_spoiled:
            self.bench.slots.spoil(slot)
        else:
            self.bench.slots.release(slot)

    @invariant()
    def the_slots_know_what_the_model_holds(self) -> None:
        for slot, cells in enumerate(self.bench.slots.cells):
            assert cells.tokens == self.bench.model.cells.get(slot, [])

    @invariant()
    def a_slot_is_busy_or_free(self) -> None:
        assert self.bench.slots.has_free == (len(self.busy) < 3)
        assert len(set(self.busy)) == len(self.busy)


TestSlotsMachine = SlotsMachine.TestCase
TestSlotsMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
