"""What a node tells its views to do, and what they say besides PeerUp and PeerDown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from barrel_p2p.core.events import Event
from barrel_p2p.core.names import Address

__all__ = ["BlockPeers", "Join", "JoinFailed", "Leave", "Start", "UnblockPeers"]


@final
@dataclass(frozen=True, slots=True)
class Start:
    """Begin: the first input, once.

    Args:
        remembered: Peers of an earlier life, the most useful first.
    """

    remembered: tuple[Address, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Join:
    """Become a member through ``reference``, also after having left."""

    reference: Address


@final
@dataclass(frozen=True, slots=True)
class Leave:
    """Stop being a member, and stay out until the next ``Join``.

    Args:
        forget: Also forget former peers, so that the next life does not seek them.
    """

    forget: bool = True


@final
@dataclass(frozen=True, slots=True)
class BlockPeers:
    """Keep ``nodes`` out of both views, until they are unblocked."""

    nodes: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class UnblockPeers:
    """Let ``nodes`` in again; None lets all."""

    nodes: tuple[str, ...] | None = None


@final
@dataclass(frozen=True, slots=True)
class JoinFailed(Event):
    """``node`` did not take this node in.

    ``reason``: ``refused``, ``left``, ``timeout``, or why the dial or the channel
    failed.
    """

    node: str
    reason: str
