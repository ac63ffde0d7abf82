"""What every room may learn about who belongs to the cluster, and who is dead.

A member has one life at a time, its creation. It is told up once, then dead once, and
gone once: after that nothing about that life is worth keeping. A verdict can be wrong,
and is then undone by another ``MemberUp`` of the same life, before it is gone or after.

Source: docs/concepts/members.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from barrel_p2p.core.events import Event

__all__ = ["MemberDead", "MemberEvent", "MemberGone", "MemberSuspected", "MemberUp"]


@final
@dataclass(frozen=True, slots=True)
class MemberUp(Event):
    """``node`` belongs to the cluster, in its life ``creation``, as far as we know."""

    node: str
    creation: int


@final
@dataclass(frozen=True, slots=True)
class MemberSuspected(Event):
    """``by`` has lost its channel to ``node`` and cannot reach it.

    It stays a member until it is dead, or not: nothing is told when it refutes.
    """

    node: str
    creation: int
    by: str


@final
@dataclass(frozen=True, slots=True)
class MemberDead(Event):
    """``node`` is no member any more.

    ``reason``: ``left``, it said so, or this node has left its cluster;
    ``unreachable``, it was suspected and nobody could say otherwise; ``expired``,
    nothing was heard of it for ``member_ttl_ms``; ``restarted``, a later life of it is
    here; ``revoked``, this node refuses it.
    """

    node: str
    creation: int
    reason: str


@final
@dataclass(frozen=True, slots=True)
class MemberGone(Event):
    """``node`` has been dead for ``member_ttl_ms``, or a later life of it is here."""

    node: str
    creation: int


type MemberEvent = MemberUp | MemberSuspected | MemberDead | MemberGone
