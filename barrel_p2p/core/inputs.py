"""What a machine is told by whoever runs it: facts that all protocol rooms share.

Together with ``core.peers``. A room's own commands stand in its ``machine``.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import final

from barrel_p2p.core.records import quickly_made

__all__ = [
    "DialFailed",
    "Dialled",
    "PersistFailed",
    "Persisted",
    "Received",
    "TimerFired",
]


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Received:
    """``message`` came from ``peer``, whose name the channel has proved."""

    peer: str
    message: object


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class TimerFired:
    """The timer of ``key`` has run out. It is gone."""

    key: Hashable


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Dialled:
    """There is a channel to ``node``. ``NodeUp`` was told before, if it is new."""

    node: str
    tag: int


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class DialFailed:
    """There is no channel to ``node``; ``reason`` is the error's code."""

    node: str
    tag: int
    reason: str


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Persisted:
    """What was ordered under ``key`` is on disk."""

    key: str


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class PersistFailed:
    """What was ordered under ``key`` is not on disk."""

    key: str
    error: str
