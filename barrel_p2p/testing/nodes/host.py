"""A simulated machine: whose callbacks they are, and how its clocks run."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Final, final

__all__ = ["HOST", "WALL_START_MS", "Host", "HostClock"]

WALL_START_MS: Final = 1_790_000_000_000
"""What right clocks show at the start of a run, in ms since 1970."""


@final
class Host:
    """One machine, with one process on it: a node in one of its lives.

    Args:
        name: The node's name.
        index: Its number, from 0.
        rate: Its clocks' seconds in one true second.

    Attributes:
        frozen: Nothing runs on it at present; what arrives waits.
        context: Everything that is started in it, or in a copy, belongs to the machine.
        crashed: Its process is gone. What is left of it is cleaned up unheard.
    """

    __slots__ = ("context", "crashed", "frozen", "index", "name", "rate")

    def __init__(self, name: str, index: int, *, rate: float = 1.0) -> None:
        self.name = name
        self.index = index
        self.rate = rate
        self.frozen = False
        self.crashed = False
        self.context = Context()
        self.context.run(HOST.set, self)


HOST: Final[ContextVar[Host | None]] = ContextVar("host", default=None)
"""The machine on which the present callback runs; None is the simulation itself."""


@final
class HostClock:
    """Both clocks of a machine, which outlives its processes.

    Args:
        true_s: Asked for the true time since the start.
        rate: As for ``Host``.

    Attributes:
        step_ms: How far somebody has set the wall clock wrong.
        is_kept: The wall clock is kept right, whatever the rate.
    """

    __slots__ = ("_true_s", "is_kept", "rate", "step_ms")

    def __init__(self, true_s: Callable[[], float], rate: float) -> None:
        self._true_s = true_s
        self.rate = rate
        self.step_ms = 0
        self.is_kept = False

    def wall_ms(self) -> int:
        """See ``Clock.wall_ms``."""
        shown_s = self._true_s() * (1.0 if self.is_kept else self.rate)
        return WALL_START_MS + round(shown_s * 1_000) + self.step_ms

    def now_ms(self) -> int:
        """See ``Clock.now_ms``."""
        return round(self._true_s() * self.rate * 1_000)

    def set_right(self) -> None:
        """The wall clock shows the true time from now on, as one that is kept so."""
        self.step_ms = 0
        self.is_kept = True
