"""What fits, what must go for it, and what a model that does not fit is told."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.engine.memory import (
    Capacity,
    Need,
    available_bytes,
    choose_evictions,
    format_bytes,
    lacking,
    machine_capacity,
    need_of,
)
from inference.engine.runner_messages import Measured
from inference.engine.thread_memo import ThreadMemo

GIB = 1024**3
MEMINFO = "MemTotal:       16777216 kB\nMemFree:  100 kB\nMemAvailable:    8388608 kB\n"


@dataclass(eq=False)
class Holder:
    """A model that is in memory, or on its way there."""

    need: Need
    has_it_all: bool = True


def _holders(*sizes_gib: float, has_it_all: bool = True) -> list[Holder]:
    return [Holder(Need(system_bytes=int(size * GIB)), has_it_all) for size in sizes_gib]


def _need(size_gib: float) -> Need:
    return Need(system_bytes=int(size_gib * GIB))


def test_a_limit_bounds_the_sum_of_all_models() -> None:
    assert available_bytes(Capacity(total_bytes=10 * GIB), _holders(3, 4)) == 3 * GIB


def test_what_is_still_being_loaded_is_not_free() -> None:
    capacity = Capacity(total_bytes=100 * GIB, free_bytes=8 * GIB)

    assert available_bytes(capacity, _holders(3, has_it_all=False)) == 5 * GIB


def test_mapped_weights_that_the_kernel_calls_available_are_counted_by_the_total() -> None:
    capacity = Capacity(total_bytes=15 * GIB, free_bytes=14 * GIB)

    assert available_bytes(capacity, _holders(10)) == 5 * GIB


def test_what_fits_needs_no_eviction() -> None:
    assert choose_evictions(_need(4), Capacity(8 * GIB), _holders(4), []) == []


def test_only_as_many_are_evicted_as_are_in_the_way() -> None:
    holders = _holders(2, 3, 3)
    found = choose_evictions(_need(5), Capacity(10 * GIB), holders, holders)

    assert found == holders[:2]


def test_what_can_never_fit_evicts_nobody() -> None:
    holders = _holders(2, 2)

    assert choose_evictions(_need(11), Capacity(10 * GIB), holders, holders) is None


def test_what_does_not_fit_is_told_with_numbers_in_ollamas_words() -> None:
    text = lacking(_need(5.6), Capacity(3.9 * GIB), [])

    assert text == "model requires more system memory (5.6 GiB) than is available (3.9 GiB)"


def test_gpu_memory_is_looked_at_where_it_is_known() -> None:
    need = Need(system_bytes=0, gpu_bytes=9 * GIB, gpu_free_bytes=8 * GIB)
    text = lacking(need, Capacity(), [])

    assert text == "model requires more GPU memory (9.0 GiB) than is available (8.0 GiB)"


def test_who_leaves_a_gpu_makes_room_there() -> None:
    need = Need(system_bytes=0, gpu_bytes=9 * GIB, gpu_free_bytes=8 * GIB)
    holder = Holder(Need(system_bytes=0, gpu_bytes=2 * GIB))

    assert choose_evictions(need, Capacity(), [holder], [holder]) == [holder]


def test_a_need_has_files_beside_the_model_and_no_gpu_share() -> None:
    measured = Measured(weights_bytes=700, kv_bytes=200, compute_bytes=100, gpu_bytes=400)
    need = need_of(measured, files_bytes=50, store_bytes=9999)

    assert (need.system_bytes, need.gpu_bytes) == (650, 400)


def test_address_space_is_bounded_generously_on_a_cpu() -> None:
    measured = Measured(weights_bytes=GIB, kv_bytes=0, compute_bytes=0)

    assert need_of(measured, files_bytes=0, store_bytes=GIB).limit_bytes == 7 * GIB


def test_address_space_is_not_bounded_with_a_gpu() -> None:
    measured = Measured(weights_bytes=GIB, kv_bytes=0, compute_bytes=0, gpu_bytes=1)

    assert need_of(measured, files_bytes=0, store_bytes=0).limit_bytes == 0


def test_address_space_is_not_bounded_beside_a_gpu_that_the_model_does_not_use() -> None:
    measured = Measured(weights_bytes=GIB, kv_bytes=0, compute_bytes=0, gpu_free_bytes=GIB)

    assert need_of(measured, files_bytes=0, store_bytes=0).limit_bytes == 0


def test_a_machine_keeps_a_reserve() -> None:
    capacity = machine_capacity(MEMINFO, [])

    assert capacity == Capacity(total_bytes=15.5 * GIB, free_bytes=7.5 * GIB)


def test_the_tightest_control_group_counts() -> None:
    groups = [
        ("max\n", "5\n", ""),
        (f"{4 * GIB}\n", f"{2 * GIB}\n", f"anon 5\ninactive_file {GIB}\n"),
    ]
    capacity = machine_capacity(MEMINFO, groups)

    assert capacity == Capacity(total_bytes=3.5 * GIB, free_bytes=2.5 * GIB)


def test_a_machine_that_tells_nothing_has_no_limit() -> None:
    assert available_bytes(machine_capacity("", []), []) == float("inf")


@pytest.mark.parametrize(
    ("size", "text"),
    [(512, "512 B"), (2048, "2.0 KiB"), (281_857_229, "268.8 MiB"), (int(5.6 * GIB), "5.6 GiB")],
)
def test_sizes_are_written_as_ollama_does(size: int, text: str) -> None:
    assert format_bytes(size) == text


# ---------------------------------------------------------------- threads


def test_a_measured_thread_count_is_known_to_the_next_process(tmp_path: Path) -> None:
    ThreadMemo(tmp_path / "engine", cpus=8).remember("w1", 6)

    assert ThreadMemo(tmp_path / "engine", cpus=8).recall("w1") == 6


def test_a_thread_count_of_another_machine_size_is_not_used(tmp_path: Path) -> None:
    ThreadMemo(tmp_path, cpus=8).remember("w1", 6)

    assert ThreadMemo(tmp_path, cpus=4).recall("w1") == 0


@pytest.mark.parametrize("text", ["", "{", '{"w1": 3}', "[]"])
def test_a_damaged_memory_of_threads_is_started_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "threads.json").write_text(text)
    memo = ThreadMemo(tmp_path, cpus=2)
    memo.remember("w2", 1)

    assert ThreadMemo(tmp_path, cpus=2).recall("w2") == 1


def test_without_a_directory_a_thread_count_is_known_as_long_as_the_process_lives() -> None:
    memo = ThreadMemo(None, cpus=2)
    memo.remember("w1", 2)

    assert memo.recall("w1") == 2


def test_a_directory_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    memo = ThreadMemo(blocked / "engine", cpus=2)
    memo.remember("w1", 2)

    assert memo.recall("w1") == 2
