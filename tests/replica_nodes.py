"""Nodes with replicas: real channels and real gossip, every channel a neighbour."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from barrel_p2p.broadcast.driver import Broadcast
from barrel_p2p.broadcast.machine import Plumtree
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.ormap import Change, OrMap
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.replica.driver import ReplicaHandle, Replicas
from barrel_p2p.replica.machine import Synced
from barrel_p2p.replica.store import ReplicatedStore, Source
from tests.channel_nodes import ChannelNode, connected, node

__all__ = ["NAME", "ReplicaNode", "replica_node", "replica_nodes"]

NAME = "things"


@dataclass
class ReplicaNode:
    """A node, its replicas, and one store whose changes are written down."""

    node: ChannelNode
    broadcast: Broadcast
    replicas: Replicas
    store: ReplicatedStore
    clock: HLC
    synced: list[Synced]
    changes: list[tuple[Change, Source]]
    customs: list[object] = field(default_factory=list)
    handle: ReplicaHandle | None = None

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def entries(self) -> OrMap:
        return self.store.entries

    @property
    def running(self) -> ReplicaHandle:
        assert self.handle is not None
        return self.handle

    def start(self) -> ReplicaHandle:
        self.handle = self.replicas.start(NAME, self.store)
        return self.handle

    async def add(self, key: object, value: object) -> None:
        await self.running.broadcast_delta(self.entries.add(key, value))

    async def remove(self, key: object) -> None:
        await self.running.broadcast_delta(self.entries.remove(key))

    def channel_changed(self, event: NodeUp | NodeDown) -> None:
        self.replicas.peer_changed(event)
        about: PeerUp | PeerDown = (
            PeerUp(event.node)
            if isinstance(event, NodeUp)
            else PeerDown(event.node, event.reason)
        )
        self.broadcast.peer_changed(about)
        self.replicas.peer_changed(about)


@asynccontextmanager
async def replica_node(
    name: str,
    *,
    anti_entropy_ms: int = 0,
    settings: EngineSettings | None = None,
    started: bool = True,
    creation: int = 7,
) -> AsyncIterator[ReplicaNode]:
    """A node that is not connected to anyone yet."""
    async with AsyncExitStack() as stack:
        channels = await stack.enter_async_context(
            node(name, settings=settings, creation=creation)
        )
        broadcast = Broadcast(
            Plumtree(name, SeededRng(sum(name.encode()))),
            network=channels.channels,
            dispatcher=channels.channels.dispatcher,
            clock=SystemClock(),
        )
        stack.push_async_callback(broadcast.close)
        clock = HLC()
        synced: list[Synced] = []
        changes: list[tuple[Change, Source]] = []
        replicas = Replicas(
            node=name,
            creation=creation,
            network=channels.channels,
            dispatcher=channels.channels.dispatcher,
            broadcast=broadcast,
            clock=SystemClock(),
            hlc=clock,
            rng=SeededRng(sum(name.encode()) + 1),
            anti_entropy_ms=anti_entropy_ms,
            on_synced=synced.append,
        )
        stack.push_async_callback(replicas.close)
        store = ReplicatedStore(
            OrMap(name, clock),
            on_change=lambda found, source: changes.extend((c, source) for c in found),
        )
        made = ReplicaNode(channels, broadcast, replicas, store, clock, synced, changes)
        channels.channels.listen(made.channel_changed)
        if started:
            made.start()
        yield made


@asynccontextmanager
async def replica_nodes(
    count: int,
    *,
    anti_entropy_ms: int = 0,
    settings: EngineSettings | None = None,
    started: bool = True,
) -> AsyncIterator[list[ReplicaNode]]:
    """``count`` nodes, each with a channel to every other."""
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(
                replica_node(
                    f"n{i}@h",
                    anti_entropy_ms=anti_entropy_ms,
                    settings=settings,
                    started=started,
                )
            )
            for i in range(count)
        ]
        for i, first in enumerate(made):
            for second in made[i + 1 :]:
                await connected(first.node, second.node)
        yield made
