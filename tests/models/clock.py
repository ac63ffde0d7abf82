"""A wall clock that shows what the test last set, and counts how often it was read."""

from __future__ import annotations


class HandClock:
    """``wall_ms`` may be set to anything, so that a test can lie to the code."""

    def __init__(self, shown: object = 0) -> None:
        self.shown = shown

    def wall_ms(self) -> int:
        """Return what is shown, whatever it is."""
        return self.shown  # type: ignore[return-value]
