"""What the machine of shards is told, tells, and is set to, beside ``core``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from barrel_p2p.core.effects import CancelTimer, Publish, SetTimer

__all__ = [
    "Abandon",
    "Begin",
    "End",
    "HandOff",
    "HandedOff",
    "Heard",
    "Hooks",
    "Paused",
    "Settle",
    "ShardEffect",
    "ShardSettings",
    "ShardStats",
]


@final
@dataclass(frozen=True, slots=True)
class Begin:
    """Own what falls to this node. The first input.

    Args:
        members: Who belongs to the cluster now; this node need not be among them.
        waits: There are nodes to be heard before anything is owned.
    """

    members: tuple[str, ...]
    waits: bool


@final
@dataclass(frozen=True, slots=True)
class Settle:
    """The members stay as they are for this moment: own what follows from them."""


@final
@dataclass(frozen=True, slots=True)
class Heard:
    """A peer has told its leases."""


@final
@dataclass(frozen=True, slots=True)
class Paused:
    """This node stood still for so long that others may have replaced it."""


@final
@dataclass(frozen=True, slots=True)
class Hooks:
    """Whether there is anything to await when a partition comes, and when it goes."""

    acquired: bool
    released: bool


@final
@dataclass(frozen=True, slots=True)
class HandedOff:
    """The ``HandOff`` of that number is over."""

    partition: int
    number: int


@final
@dataclass(frozen=True, slots=True)
class End:
    """Give everything back. Nothing is acquired any more."""


@final
@dataclass(frozen=True, slots=True)
class HandOff:
    """Await the hooks for ``partition``, and tell ``HandedOff`` at their end."""

    partition: int
    acquired: bool
    number: int


@final
@dataclass(frozen=True, slots=True)
class Abandon:
    """Cancel the ``HandOff`` of that number; nobody waits for it any more."""

    partition: int
    number: int
    overran: bool


type ShardEffect = Publish | SetTimer | CancelTimer | HandOff | Abandon


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """The periods.

    Args:
        ttl_ms: How long a node that has somebody to hear waits alone before it owns
            everything.
        grace_ms: After a pause, what comes so soon was said before its end.
        hand_off_ms: How long a hook is awaited.
    """

    ttl_ms: int = 6_000
    grace_ms: int = 500
    hand_off_ms: int = 6_000


@final
@dataclass(slots=True)
class ShardStats:
    """Totals since the start.

    Attributes:
        acquired: Partitions that came.
        released: Partitions that went.
        pauses: How often this node was stopped for so long that it gave all back.
        overran: Hooks that were not over in time.
    """

    acquired: int = 0
    released: int = 0
    pauses: int = 0
    overran: int = 0
