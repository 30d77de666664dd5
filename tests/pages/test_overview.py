"""Words and numbers of the home page."""

import pytest

from inference.messages import LoadedModel
from inference.overview import format_bytes, format_context, format_duration, loaded_rows


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 KB"),
        (9_960, "10 KB"),
        (144_811_234, "145 MB"),
        (999_999, "1.0 MB"),
        (4_920_000_000, "4.9 GB"),
        (42_520_000_000, "43 GB"),
        (7_000_000_000_000_000, "7000 TB"),
    ],
)
def test_sizes_are_decimal_and_short(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


@pytest.mark.parametrize(
    ("tokens", "shown"), [(2048, "2K"), (131_072, "128K"), (512, "512"), (100_000, "100,000")]
)
def test_context_is_said_as_people_say_it(tokens: int, shown: str) -> None:
    assert format_context(tokens) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (9.4, "9 s"),
        (272, "4 min 32 s"),
        (300, "5 min"),
        (3600, "1 h"),
        (7509, "2 h 5 min"),
        (float("inf"), ""),
    ],
)
def test_durations_have_at_most_two_parts(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("vram_bytes", "shown"), [(0, "CPU"), (500, "50% GPU"), (1000, "GPU"), (1200, "GPU")]
)
def test_share_of_the_gpu_is_shown(vram_bytes: int, shown: str) -> None:
    model = LoadedModel(
        name="m:latest",
        digest="a" * 64,
        size_bytes=1000,
        size_vram_bytes=vram_bytes,
        context_length=4096,
        expires_in_s=1.0,
    )
    assert loaded_rows([model])[0].processor == shown
