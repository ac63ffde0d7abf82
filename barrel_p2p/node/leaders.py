"""What a node does with leaders: stand for a name, learn who leads it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import NotStarted
from barrel_p2p.node.run import self_pid
from barrel_p2p.node.shards import has_somebody_to_hear, pause_ms
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.services.leader import Leaders
from barrel_p2p.services.leader_events import Candidate, LeaderEvent, Role
from barrel_p2p.services.leadership import Term
from barrel_p2p.services.unique import UniqueServices

if TYPE_CHECKING:
    from barrel_p2p.node.parts import Parts

__all__ = ["LeaderNode", "leaders"]


@asynccontextmanager
async def leaders(parts: Parts) -> AsyncIterator[None]:
    """Take part in elections; end all terms of this node at the end."""
    parts.leaders = made = Leaders(
        parts.name,
        parts.switch.creation,
        replicas=parts.replicas,
        processes=parts.processes,
        clock=parts.clock,
        hlc=parts.hlc,
        pauses=parts.pauses,
        pause_ms=pause_ms(parts.config),
        settle_ms=parts.config.member_ttl_ms,
    )
    parts.unique = UniqueServices(parts.registry, made)
    members = parts.members
    forget = [
        members.listen(made.member_changed),
        parts.membership.listen(made.peer_changed),
    ]
    lives = {name: members.life(name) or 0 for name in members.alive()}
    made.start(lives, waits=has_somebody_to_hear(parts))
    for peer in parts.membership.active_view():
        made.peer_known(peer)
    try:
        yield
    finally:
        for one in forget:
            one()
        made.close()
        await asyncio.sleep(0)  # Candidates hear of it while they can still act.


class LeaderNode(ABC):
    """The part of ``Node`` that is about leaders."""

    @abstractmethod
    def _overlay(self) -> Parts:
        """What the node is made of; NotStarted if it runs not, Conflict if hidden."""

    async def lead(
        self, name: object, *, priority: int = 0, pid: Pid | None = None
    ) -> Role:
        """Make a process a candidate for ``name``, until it resigns or ends.

        Args:
            name: A key term: text, bytes, an integer, or a tuple of those.
            priority: The greatest leads; of equal ones the smallest node name. Within
                31 bits, either side of 0.
            pid: A process of this node; None is the one that asks. It is sent
                ``Elected(name, fence)`` and ``Revoked(name)``.

        Returns:
            Its role at first, of which it is sent nothing.

        Raises:
            AlreadyCandidate: This node has a candidate for ``name``.
            NoProc: ``pid`` has ended.
            InvalidValue: It is of another node, or the priority is out of range.
            NotEncodable: ``name`` is no key term.
            Busy: This node has too many candidates.

        Guarantee:
            Every fence is greater than all that this node has heard of for any name.
            ``Revoked`` comes before every message that waits when it is sent.
        """
        return await self._overlay().leaders.lead(
            name, pid or self_pid(), priority=priority
        )

    async def resign(self, name: object) -> None:
        """Stand for ``name`` no more. The candidate is sent nothing. Idempotent."""
        await self._overlay().leaders.resign(name)

    def leader(self, name: object) -> tuple[str, Pid]:
        """Who leads ``name``, and on which node, as far as this one knows.

        Raises:
            NoLeader: Nobody does.
        """
        return self._overlay().leaders.leader(name)

    def is_leader(self, name: object) -> bool:
        """Whether this node's candidate leads ``name``."""
        return self._overlay().leaders.is_leader(name)

    def fence(self, name: object) -> int:
        """The fence of this node's term of ``name``, below 2^63.

        Raises:
            NotLeader: It does not lead.
        """
        return self._overlay().leaders.fence(name)

    def candidates(self, name: object) -> list[Candidate]:
        """Who stands for ``name``: the one who should lead first, then the others."""
        return self._overlay().leaders.candidates(name)

    def high_water(self, name: object) -> int | None:
        """The greatest fence of ``name`` that this node has heard of; None for none."""
        return self._overlay().leaders.high_water(name)

    def elections(self) -> list[object]:
        """The names for which somebody stands, as this node heard of them."""
        return self._overlay().leaders.names()

    def leadership(
        self, name: object, *, priority: int = 0, pid: Pid | None = None
    ) -> AsyncGenerator[Term]:
        """Stand for ``name`` for as long as the loop runs, term after term.

        ``async for term in node.leadership(name): async with term: ...``. Each term is
        given once, when it has begun. Its block is cancelled when it is revoked, and
        the loop waits for the next one. Leaving the loop resigns; it ends by itself if
        somebody else resigns for this node, the candidate ends, or the node stops.

        Args:
            name: A key term.
            priority: As for ``lead``.
            pid: The candidate; None is the process that asks or, in plain code, one
                that is made for it. It is sent nothing.

        Raises:
            As ``lead``, when the first term is asked for.
        """
        return self._overlay().leaders.leadership(
            name, pid or _own_pid(), priority=priority
        )

    async def subscribe_leaders(
        self, pid: Pid | None = None, *, name: object = None
    ) -> None:
        """Send ``Elected`` and ``Revoked`` of this node's candidates to a process.

        Args:
            pid: A process of this node; None is the one that asks.
            name: Only events of this name.

        Raises:
            InvalidValue: ``pid`` is of another node.
            NoProc: There is no such process.
        """
        self._overlay().leaders.subscribe(pid or self_pid(), name=name)

    async def unsubscribe_leaders(self, pid: Pid | None = None) -> None:
        """Send them no more. Idempotent."""
        self._overlay().leaders.unsubscribe(pid or self_pid())

    def leader_events(
        self, *, name: object = None, maxsize: int = 1_024
    ) -> EventStream[LeaderEvent]:
        """``Elected`` and ``Revoked`` of this node's candidates, from now on.

        Args:
            name: Only events of this name.
            maxsize: Events that may wait before the oldest go.
        """
        return self._overlay().leaders.events(name=name, maxsize=maxsize)


def _own_pid() -> Pid | None:
    try:
        return self_pid()
    except NotStarted:
        return None
