"""Time as an argument: what a machine or a clock may ask, and the real answer.

``now_ms`` never goes back and means nothing outside the process; ``wall_ms`` is what
the operator's clock shows and may jump either way. They are never mixed.
"""

from __future__ import annotations

import time
from typing import Protocol, final, runtime_checkable

__all__ = ["Clock", "SystemClock", "WallClock"]


@runtime_checkable
class WallClock(Protocol):
    """Anything that knows the time of day."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC. May jump, also backwards."""
        ...


@runtime_checkable
class Clock(WallClock, Protocol):
    """Both kinds of time."""

    def now_ms(self) -> int:
        """Milliseconds since an arbitrary instant. Never goes back."""
        ...


@final
class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC, from ``CLOCK_REALTIME``."""
        return time.time_ns() // 1_000_000

    def now_ms(self) -> int:
        """Milliseconds since an arbitrary instant, from ``CLOCK_MONOTONIC``."""
        return time.monotonic_ns() // 1_000_000
