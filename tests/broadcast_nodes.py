"""Nodes that broadcast: real channels between them, and a full mesh of neighbours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from barrel_p2p.broadcast.driver import Broadcast
from barrel_p2p.broadcast.machine import Plumtree
from barrel_p2p.broadcast.messages import Delivery
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.quic.settings import EngineSettings
from tests.channel_nodes import ChannelNode, connected, node

__all__ = ["TOPIC", "BroadcastNode", "mesh"]

TOPIC = "news"


@dataclass
class BroadcastNode:
    """A node whose every channel leads to a neighbour, and what it has heard."""

    node: ChannelNode
    broadcast: Broadcast
    machine: Plumtree
    heard: list[Delivery] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.heard]

    def channel_changed(self, event: NodeUp | NodeDown) -> None:
        if isinstance(event, NodeUp):
            self.broadcast.peer_changed(PeerUp(event.node))
        else:
            self.broadcast.peer_changed(PeerDown(event.node, event.reason))


@asynccontextmanager
async def mesh(
    count: int, *, settings: EngineSettings | None = None, **options: int
) -> AsyncIterator[list[BroadcastNode]]:
    """``count`` nodes, each with a channel to every other; ``options`` for Plumtree."""
    async with AsyncExitStack() as stack:
        made: list[BroadcastNode] = []
        for i in range(count):
            channels = await stack.enter_async_context(
                node(f"n{i}@h", settings=settings)
            )
            machine = Plumtree(channels.name, SeededRng(i), **options)
            driver = Broadcast(
                machine,
                network=channels.channels,
                dispatcher=channels.channels.dispatcher,
                clock=SystemClock(),
            )
            stack.push_async_callback(driver.close)
            one = BroadcastNode(channels, driver, machine)
            driver.subscribe(TOPIC, one.heard.append)
            channels.channels.listen(one.channel_changed)
            made.append(one)
        for i, first in enumerate(made):
            for second in made[i + 1 :]:
                await connected(first.node, second.node)
        yield made
