"""What is told of leaders, and what they are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, final

from barrel_p2p.core.events import Event
from barrel_p2p.core.terms import Pid

__all__ = ["Candidate", "Elected", "LeaderEvent", "Revoked", "Role"]


class Role(NamedTuple):
    """What a candidate is at first.

    Args:
        leader: Whether it leads now. If not, ``Elected`` says when it does.
        fence: Of its term; None while it does not lead.
    """

    leader: bool
    fence: int | None


class Candidate(NamedTuple):
    """One who would lead.

    Args:
        node: Where it runs.
        pid: The process.
        priority: The greatest leads.
    """

    node: str
    pid: Pid
    priority: int


@final
@dataclass(frozen=True, slots=True)
class Elected(Event):
    """This node's candidate leads ``name`` now. ``fence``: of this term."""

    name: Any
    fence: int


@final
@dataclass(frozen=True, slots=True)
class Revoked(Event):
    """This node's candidate leads ``name`` no more."""

    name: Any


type LeaderEvent = Elected | Revoked
