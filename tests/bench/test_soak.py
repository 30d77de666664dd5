"""What a soak calls growth."""

from bench.soak import Soak

MIB = 2**20


def test_what_fills_in_the_beginning_is_no_growth() -> None:
    filling = [(minute / 10, min(minute, 20.0) * MIB) for minute in range(100)]
    soak = Soak(memory={"runner": filling, "web": [(minute, 150.0 * MIB) for minute in range(100)]})

    assert soak.growing(0.1) == []


def test_what_goes_on_growing_is_named() -> None:
    leaking = [(minute / 10, (100 + minute / 5) * MIB) for minute in range(100)]
    soak = Soak(memory={"web": leaking, "node": [(minute, 9.0) for minute in range(100)]})

    assert soak.growing(1.0) == ["web grows by 2.00 MiB a minute"]
    assert soak.growing(3.0) == []
