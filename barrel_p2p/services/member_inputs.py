"""What the machine of members is told, tells, and is set to, beside ``core``.

``CHECKED_REASONS`` says which ends of a channel may be the end of a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from barrel_p2p.errors import ConfigError

__all__ = [
    "CHECKED_REASONS",
    "Allow",
    "ChannelUp",
    "ClockAhead",
    "ComeBack",
    "GoAway",
    "LeaseSettings",
    "MemberStats",
    "Refuse",
    "Start",
]

CHECKED_REASONS: Final = frozenset(
    {
        "idle_timeout",
        "protocol_error",
        "shutdown",
        "stateless_reset",
        "transport_error",
        "unreachable",
    }
)
"""Ends of a channel that may be the end of a node. All others were intended."""


@final
@dataclass(frozen=True, slots=True)
class Start:
    """Begin to count. The first input."""


@final
@dataclass(frozen=True, slots=True)
class GoAway:
    """Say LEAVE. ``ComeBack``, or a new peer, means that this node joins again.

    ``alone``: From now on it is the only member that it knows. False is for a node that
    stops, to which nothing has happened yet that its rooms should be told of.
    """

    alone: bool = True


@final
@dataclass(frozen=True, slots=True)
class ComeBack:
    """Believe others again. The peer that comes next can be late behind its leases."""


@final
@dataclass(frozen=True, slots=True)
class Refuse:
    """``node`` is revoked here: no lease of it counts any more."""

    node: str


@final
@dataclass(frozen=True, slots=True)
class Allow:
    """Undo ``Refuse``."""

    node: str


@final
@dataclass(frozen=True, slots=True)
class ChannelUp:
    """There is a channel to ``node`` in its life ``creation``.

    ``address``: where it says that it can be dialled, if it says so.
    """

    node: str
    creation: int
    address: tuple[str, int] | None = None


@final
@dataclass(frozen=True, slots=True)
class ClockAhead:
    """The clock of ``node`` is ``ahead_ms`` ahead of ours, so it is no member here.

    Published once, until its clock is right again.
    """

    node: str
    ahead_ms: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """The periods. The keys of the configuration have the same names.

    Args:
        heartbeat_ms: From one number of our lease to the next.
        ttl_ms: How long a lease lasts that does not grow, at least two heartbeats.
        suspect_ms: How long a suspect may take to refute.
        skew_ms: How far a peer's wall clock may be ahead of ours.

    Raises:
        ConfigError: One of them is out of range.
    """

    heartbeat_ms: int = 2_000
    ttl_ms: int = 6_000
    suspect_ms: int = 1_000
    skew_ms: int = 5_000

    def __post_init__(self) -> None:
        if min(self.heartbeat_ms, self.suspect_ms) < 1 or self.skew_ms < 0:
            raise ConfigError(f"{self}: periods are at least 1 ms, and skew 0")
        if self.ttl_ms < 2 * self.heartbeat_ms:
            raise ConfigError(
                f"member_ttl_ms={self.ttl_ms} is less than two of"
                f" member_heartbeat_ms={self.heartbeat_ms}"
            )


@final
@dataclass(slots=True)
class MemberStats:
    """Totals since the start. ``ignored`` counts what was legal and made no sense."""

    deaths: int = 0
    suspicions: int = 0
    refutations: int = 0
    revivals: int = 0
    pauses: int = 0
    skewed: int = 0
    impostors: int = 0
    refused: int = 0
    ignored: int = 0
