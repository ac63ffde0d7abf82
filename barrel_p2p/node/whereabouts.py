"""Where a node can be dialled: as discovery says, as it said itself, as peers believe.

Discovery need not know everybody. A node that had a channel to another remembers where
that one said it listens, the views know more, and the router asks others for the rest.
Whoever answers at an address still has to prove its name.

Bounded by ``PLACES_MAX``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from barrel_p2p.carrier.dialer import Resolved
from barrel_p2p.core.members import MemberDead, MemberEvent, MemberGone
from barrel_p2p.core.names import NodeReference
from barrel_p2p.core.peers import NodeDown, NodeUp

if TYPE_CHECKING:
    from barrel_p2p.node.parts import Parts

__all__ = ["PLACES_MAX", "Whereabouts"]

PLACES_MAX: Final = 4_096
"""Nodes whose addresses are remembered after their channels; the oldest goes."""

_DISCOVERY_S: Final = 0.2  # Enough for files; nobody waits for names that DNS lacks.


class Whereabouts:
    """What one node knows of where others are.

    Args:
        parts: The node's; what is not there yet is not asked.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._places: dict[str, tuple[str, int]] = {}

    def node_changed(self, event: NodeUp | NodeDown) -> None:
        """A channel came up, or ended."""
        channel = self._parts.channels.get(event.node)
        if channel is None or not isinstance(event, NodeUp):
            return
        place = channel.session.address
        self._places.pop(event.node, None)
        if place is None:
            return
        if len(self._places) >= PLACES_MAX:
            del self._places[next(iter(self._places))]
        self._places[event.node] = place

    def member_changed(self, event: MemberEvent) -> None:
        """A member came, or died. A later life of it may be elsewhere."""
        if isinstance(event, MemberDead | MemberGone):
            self._places.pop(event.node, None)

    def of(self, name: str) -> tuple[str, int] | None:
        """Host and port of ``name`` as far as this node knows, itself included."""
        parts = self._parts
        if name == parts.name:
            return parts.address.host, parts.address.port
        known = self._known(name)
        return known[0] if known else None

    async def resolve(self, reference: NodeReference) -> Resolved:
        """Where to dial, the best first; for the channels."""
        chain, name = self._parts.chain, reference.name
        if reference.host is not None:
            answer = await chain.resolve(reference)
            return Resolved([(a.host, a.port) for a in answer.addresses], str(answer))
        known = self._known(name)
        found, explanation = await self._discovered(name, patient=not known)
        if known:
            explanation += f" · this node: {', '.join(host for host, _ in known)}"
        elif not found and self._parts.router is not None:
            place = await self._parts.router.locate(name)
            explanation += f" · peers: {place[0] if place else 'no entry'}"
            known = [place] if place else []
        return Resolved(list(dict.fromkeys(found + known)), explanation)

    def _known(self, name: str) -> list[tuple[str, int]]:
        """Where it said itself that it is, and where the views believe that it is."""
        place, parts = self._places.get(name), self._parts
        known = [] if place is None else [place]
        if parts.membership is not None:
            address = parts.membership.address_of(name)
            if address is not None and address.port:
                known.append((address.host, address.port))
        return known

    async def _discovered(
        self, name: str, *, patient: bool
    ) -> tuple[list[tuple[str, int]], str]:
        try:
            async with asyncio.timeout(None if patient else _DISCOVERY_S):
                answer = await self._parts.chain.lookup(name)
        except TimeoutError:
            return [], f"discovery: no answer within {_DISCOVERY_S} s"
        return [(a.host, a.port) for a in answer.addresses], str(answer)
