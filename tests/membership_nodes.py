"""Nodes with channels and views: real UDP on loopback, in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.names import Address, NodeReference
from barrel_p2p.core.peers import Joined, Left, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.membership.driver import Membership
from barrel_p2p.membership.settings import Settings, address_of
from tests.channel_nodes import ChannelNode, node

__all__ = ["ViewNode", "view_node"]


@dataclass
class ViewNode:
    """A node's views, its channels below them, and what the views told."""

    channels: ChannelNode
    views: Membership
    events: list[PeerUp | PeerDown | Joined | Left] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.channels.name

    @property
    def ref(self) -> str:
        return self.channels.ref


@asynccontextmanager
async def view_node(
    name: str,
    *,
    contacts: tuple[str, ...] = (),
    store: Path | None = None,
    settings: Settings | None = None,
    **options: object,
) -> AsyncIterator[ViewNode]:
    """A node that looks for ``contacts``; ``options`` are those of ``node``."""
    async with node(name, **options) as below:  # type: ignore[arg-type]
        base = settings or Settings()
        values = {slot: getattr(base, slot) for slot in Settings.__slots__}
        references = [NodeReference.parse(contact) for contact in contacts]
        values["contact_nodes"] = tuple(address_of(one) for one in references)
        views = Membership(
            Settings(**values),
            address=Address(name, *below.endpoint.address[:2]),
            carrier=below.channels,
            frames=below.channels.dispatcher,
            clock=SystemClock(),
            rng=SeededRng(int.from_bytes(name.encode())),
            contacts=references,
            store=store,
        )
        made = ViewNode(below, views)
        views.listen(made.events.append)
        views.start()
        try:
            yield made
        finally:
            await views.close()
