"""What a machine may order: plain values that a runner, or a simulator, performs.

A machine returns them from ``handle`` in the order in which they are to happen. None of
them fails towards the machine: what comes of one is told as an input, where the
docstring says so.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, final

from barrel_p2p.core.records import quickly_made

__all__ = [
    "CancelTimer",
    "Dial",
    "Effect",
    "HangUp",
    "Machine",
    "Persist",
    "Publish",
    "Send",
    "SetTimer",
]


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Send:
    """Send ``message``, one of the room's own, to ``to``.

    It is lost if there is no channel, and with the channel if that goes down.
    """

    to: str
    message: object


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class SetTimer:
    """Tell ``TimerFired(key)`` in ``delay_ms``; replaces the timer of the same key."""

    key: Hashable
    delay_ms: int


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget the timer of ``key``, if there is one."""

    key: Hashable


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Dial:
    """Open a channel to ``node``; told once as ``Dialled`` or ``DialFailed``.

    Args:
        node: Its name.
        address: Where it may be, host and port; None asks discovery.
        tag: Given back in the answer, to tell this attempt from earlier ones.
    """

    node: str
    address: tuple[str, int] | None
    tag: int


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the channel to ``node``, whoever uses it."""

    node: str
    reason: str


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the room's listeners, in order, before the next effect is performed."""

    event: object


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Persist:
    """Write ``value`` under ``key``; told as ``Persisted`` or ``PersistFailed``."""

    key: str
    value: object


type Effect = Send | SetTimer | CancelTimer | Dial | HangUp | Publish | Persist


class Machine(Protocol):
    """What decides: a function of what it was told, its clock and its randomness."""

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Take one input and return what is to be done about it, in order."""
        ...
