"""The system's clocks tell milliseconds, of the day and of the process."""

from __future__ import annotations

import time

from barrel_p2p.core.clock import Clock, SystemClock, WallClock


def test_the_wall_is_unix_time_in_milliseconds() -> None:
    before_ms = time.time_ns() // 1_000_000
    assert before_ms <= SystemClock().wall_ms() <= time.time_ns() // 1_000_000


def test_now_is_monotonic_time_in_milliseconds() -> None:
    before_ms = time.monotonic_ns() // 1_000_000
    assert before_ms <= SystemClock().now_ms() <= time.monotonic_ns() // 1_000_000


def test_the_system_clock_is_both_kinds_of_clock() -> None:
    assert isinstance(SystemClock(), Clock)
    assert isinstance(SystemClock(), WallClock)
    assert not isinstance(time, WallClock)
