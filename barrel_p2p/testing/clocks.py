"""A clock that stands still until a test moves it."""

from __future__ import annotations

from typing import Final, final

from barrel_p2p.errors import InvalidValue

__all__ = ["WALL_MS", "FakeClock"]

WALL_MS: Final = 1_700_000_000_000
"""Where the time of day begins unless a test says otherwise: in November 2023."""


@final
class FakeClock:
    """Both kinds of time, as ``core.clock.Clock`` has them, moved by hand.

    For whatever is *told* the time: an ``HLC``, a ``TrustStore``, code of your own. The
    timers of a node are those of the event loop, which no clock moves.

    Args:
        now_ms: The monotonic time to begin with, in ms, >= 0.
        wall_ms: The time of day to begin with, in ms since 1970-01-01 UTC, >= 0.

    Raises:
        InvalidValue: One of them is negative.
    """

    __slots__ = ("_now_ms", "_wall_ms")

    def __init__(self, *, now_ms: int = 0, wall_ms: int = WALL_MS) -> None:
        if now_ms < 0 or wall_ms < 0:
            raise InvalidValue(f"a clock at now_ms={now_ms}, wall_ms={wall_ms}: min 0")
        self._now_ms = now_ms
        self._wall_ms = wall_ms

    def now_ms(self) -> int:
        """Milliseconds since an arbitrary instant. Never goes back."""
        return self._now_ms

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC. Goes where ``step`` takes it."""
        return self._wall_ms

    def advance(self, ms: int) -> None:
        """Let time pass, on both clocks.

        Args:
            ms: Milliseconds, >= 0.

        Raises:
            InvalidValue: ``ms`` is negative. Use ``step`` to set the time of day back.
        """
        if ms < 0:
            raise InvalidValue(
                f"time passes by {ms} ms: the least is 0",
                hint="step() sets the time of day back",
            )
        self._now_ms += ms
        self._wall_ms += ms

    def step(self, ms: int) -> None:
        """Have the operator set the time of day: it jumps, and no time passes.

        Args:
            ms: Milliseconds; below 0 it goes back, to 1970-01-01 at most.

        Raises:
            InvalidValue: It would be before 1970.
        """
        if self._wall_ms + ms < 0:
            raise InvalidValue(f"a step by {ms} ms ends before 1970")
        self._wall_ms += ms
