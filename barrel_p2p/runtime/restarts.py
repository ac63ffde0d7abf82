"""What a supervisor does when a child ends: pure, no tasks, no clock.

Bounded by ``intensity``: more restarts than that within ``period_ms`` and it gives up,
so that a fault that restarting does not mend reaches whoever supervises the supervisor.

Source: Erlang/OTP, "Supervisor Behaviour", restart strategies and intensity.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from barrel_p2p.errors import InvalidValue

__all__ = [
    "INTENSITY_MAX",
    "Effect",
    "Ended",
    "Event",
    "Forget",
    "GiveUp",
    "Restart",
    "Restarts",
    "Start",
    "StartFailed",
    "Stop",
    "Strategy",
    "as_intended",
]

type Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
type Restart = Literal["permanent", "transient", "temporary"]

INTENSITY_MAX: Final = 10_000
"""Largest ``intensity``: so many times are remembered."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The child ``key`` ended by itself, with ``reason``."""

    key: int
    reason: object


@dataclass(frozen=True, slots=True)
class StartFailed:
    """A ``Start`` that was ordered here failed. The orders after it were not done."""

    key: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the child ``key``, if it runs, and wait until it has."""

    key: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start the child ``key`` again."""

    key: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The child ``key`` will not be started again."""

    key: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Too many restarts: stop every child and end."""


Event = Ended | StartFailed
Effect = Stop | Start | Forget | GiveUp


def as_intended(reason: object) -> bool:
    """Whether a process that ends with ``reason`` ends as it was meant to."""
    if reason in ("normal", "shutdown"):
        return True
    return isinstance(reason, tuple) and len(reason) == 2 and reason[0] == "shutdown"


class Restarts:
    """Decide what to stop and start. Children have the order in which they were added.

    Args:
        strategy: Which children share the fate of one that ended.
        intensity: Restarts allowed within ``period_ms``, 0 to ``INTENSITY_MAX``.
        period_ms: The length of that time, at least 1.
        keep: Whether a transient child that ended as intended is kept, to be started
            again together with others.

    Raises:
        InvalidValue: A number is out of range.
    """

    def __init__(
        self, *, strategy: Strategy, intensity: int, period_ms: int, keep: bool = True
    ) -> None:
        if not 0 <= intensity <= INTENSITY_MAX:
            raise InvalidValue(f"intensity={intensity} is not of 0 to {INTENSITY_MAX}")
        if period_ms < 1:
            raise InvalidValue(f"a period of {period_ms} ms is below 1")
        self._strategy = strategy
        self._period_ms = period_ms
        self._keep = keep
        self._policies: dict[int, Restart] = {}  # in the order of the children
        self._times: deque[int] = deque(maxlen=intensity + 1)

    def add(self, key: int, restart: Restart) -> None:
        """There is a child ``key``, started after all others."""
        self._policies[key] = restart

    def remove(self, key: int) -> None:
        """There is no child ``key`` any more, because somebody asked for that."""
        self._policies.pop(key, None)

    def handle(self, event: Event, *, now_ms: int) -> list[Effect]:
        """Advance by one event; return the effects to perform, in order."""
        policy = self._policies.get(event.key)
        if policy is None:
            return []
        match event:
            case Ended(key, reason):
                if policy == "temporary":
                    return self._forgotten(key)
                if policy == "transient" and as_intended(reason):
                    return [] if self._keep else self._forgotten(key)
            case StartFailed():
                pass
            case _:
                assert_never(event)
        if self._too_many(now_ms):
            return [GiveUp()]
        return self._restart(event.key)

    def _forgotten(self, key: int) -> list[Effect]:
        del self._policies[key]
        return [Forget(key)]

    def _too_many(self, now_ms: int) -> bool:
        times = self._times
        times.append(now_ms)
        return len(times) == times.maxlen and now_ms - times[0] <= self._period_ms

    def _restart(self, key: int) -> list[Effect]:
        group = self._group(key)
        effects: list[Effect] = [Stop(one) for one in reversed(group) if one != key]
        for one in group:
            if self._policies[one] == "temporary":
                effects.extend(self._forgotten(one))
        return [*effects, *[Start(one) for one in group if one in self._policies]]

    def _group(self, key: int) -> list[int]:
        if self._strategy == "one_for_one":
            return [key]
        everyone = list(self._policies)
        if self._strategy == "one_for_all":
            return everyone
        return everyone[everyone.index(key) :]
