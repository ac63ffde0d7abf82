"""What the machine of reminders is told, tells, and is set to, beside ``core``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from barrel_p2p.core.effects import Publish, SetTimer
from barrel_p2p.core.ormap import Entry
from barrel_p2p.core.records import quickly_made

__all__ = [
    "Consume",
    "Deliver",
    "Fired",
    "Learned",
    "Listening",
    "NotFired",
    "ReminderEffect",
    "ReminderSettings",
    "ReminderStats",
    "Removed",
    "Synced",
    "Unsure",
]


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Learned:
    """``entry`` stands under the key of those bytes now, and is due at ``at_ms``."""

    name: bytes
    at_ms: int
    entry: Entry


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Removed:
    """Nothing stands under the key of those bytes any more."""

    name: bytes


@final
@dataclass(frozen=True, slots=True)
class Unsure:
    """This node may not know what has fired while it was away."""


@final
@dataclass(frozen=True, slots=True)
class Synced:
    """This node has compared its reminders with a neighbour's."""


@final
@dataclass(frozen=True, slots=True)
class Listening:
    """Who listens here.

    Args:
        handlers: How many.
        room: How many events they could take now.
        acknowledging: One of them says itself when a reminder is done with.
    """

    handlers: int
    room: int
    acknowledging: bool


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Fired:
    """A ``Consume`` has come to its end."""

    name: bytes


@final
@dataclass(frozen=True, slots=True)
class NotFired:
    """What was to be consumed could not be made durable. Nobody was told."""

    name: bytes
    entry: Entry


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Consume:
    """Make it durable that ``entry`` has fired, then tell; answer ``Fired``."""

    name: bytes
    entry: Entry


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Deliver:
    """Tell of ``entry``; somebody says when it is done with."""

    name: bytes
    entry: Entry


type ReminderEffect = Publish | SetTimer | Consume | Deliver


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReminderSettings:
    """The periods, in milliseconds.

    Args:
        scan_ms: From one look at the wall clock to the next, at most.
        settle_ms: So long no member may come or go before a node that was away fires.
        patience_ms: After so long it fires all the same.
        ack_ms: What nobody has acknowledged for so long is told again.
        retry_ms: What could not be made durable is tried again after it.
        late_ms: What is later than that is caught up with, at a bounded rate.
    """

    scan_ms: int = 1_000
    settle_ms: int = 2_000
    patience_ms: int = 18_000
    ack_ms: int = 30_000
    retry_ms: int = 1_000
    late_ms: int = 1_000


@final
@dataclass(slots=True)
class ReminderStats:
    """Totals since the start.

    Attributes:
        consumed: Firings that this node was to make durable.
        delivered: Firings that were told before they were consumed.
        redelivered: Of these, those that had been told here before.
        not_durable: Firings that were put off because the disk did not take them.
        late: Firings that were later than ``late_ms``.
        refused: What other nodes sent and is no reminder, or was forgotten here.
    """

    consumed: int = 0
    delivered: int = 0
    redelivered: int = 0
    not_durable: int = 0
    late: int = 0
    refused: int = 0
