"""The fake clock moves when it is told to, and is a clock."""

from __future__ import annotations

import pytest

from barrel_p2p import HLC, InvalidValue
from barrel_p2p.core.clock import Clock
from barrel_p2p.testing import FakeClock


def test_it_is_a_clock_that_stands_still() -> None:
    clock = FakeClock()
    assert isinstance(clock, Clock)
    assert (clock.now_ms(), clock.wall_ms()) == (0, 1_700_000_000_000)
    assert (clock.now_ms(), clock.wall_ms()) == (0, 1_700_000_000_000)


def test_time_passes_on_both_and_steps_move_the_wall_alone() -> None:
    clock = FakeClock(now_ms=5, wall_ms=1_000)
    clock.advance(10)
    assert (clock.now_ms(), clock.wall_ms()) == (15, 1_010)
    clock.step(-1_010)
    assert (clock.now_ms(), clock.wall_ms()) == (15, 0)
    clock.step(7)
    assert (clock.now_ms(), clock.wall_ms()) == (15, 7)


def test_time_never_goes_back() -> None:
    clock = FakeClock(now_ms=5, wall_ms=1_000)
    with pytest.raises(InvalidValue):
        clock.advance(-1)
    with pytest.raises(InvalidValue):
        clock.step(-1_001)
    assert (clock.now_ms(), clock.wall_ms()) == (5, 1_000)
    with pytest.raises(InvalidValue):
        FakeClock(now_ms=-1)


def test_a_hybrid_clock_follows_it() -> None:
    clock = FakeClock(wall_ms=1_000)
    hlc = HLC(clock)
    first = hlc.now()
    clock.step(-500)
    second = hlc.now()
    clock.step(1_500)
    assert (first.wall_ms, second.wall_ms, hlc.now().wall_ms) == (1_000, 1_000, 2_000)
    assert first < second
