"""Nodes with members and a registry over real channels, each of them a neighbour's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from barrel_p2p.carrier.channels import Channels
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.members import MemberEvent
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.core.terms import Pid
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.switch import Switch
from barrel_p2p.services.member_inputs import LeaseSettings
from barrel_p2p.services.member_messages import MEMBER_KINDS
from barrel_p2p.services.members import Members
from barrel_p2p.services.registry import Elsewhere, Registry
from barrel_p2p.services.service_events import ServiceEvent
from tests.channel_nodes import connected
from tests.endpoints import eventually
from tests.replica_nodes import ReplicaNode, replica_node

__all__ = ["FAST", "ServiceNode", "idle", "service_node", "service_nodes"]

FAST = LeaseSettings(heartbeat_ms=100, ttl_ms=600, suspect_ms=200)


async def idle(process: Process) -> None:
    """A process that only ends when it is told to."""
    await process.receive(lambda message: False)


@dataclass
class ServiceNode:
    """A node as far as services go, and all that it was told."""

    replica: ReplicaNode
    processes: Processes
    members: Members
    registry: Registry
    member_events: list[MemberEvent] = field(default_factory=list)
    events: list[ServiceEvent] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.replica.name

    def spawn(self, function: Any = idle, *args: Any) -> Process:
        return self.processes.spawn(function, *args)

    async def serve(self, name: object, **meta: object) -> Pid:
        """A new process that is registered under ``name``."""
        pid = self.spawn().pid
        await self.registry.register_service(name, pid, meta)
        return pid

    def channel_changed(self, event: NodeUp | NodeDown) -> None:
        self.members.node_changed(event)
        self.replica.channel_changed(event)
        if isinstance(event, NodeUp):
            self.members.peer_changed(PeerUp(event.node))
        else:
            self.members.peer_changed(PeerDown(event.node, event.reason))


def _members(
    name: str, creation: int, channels: Channels, leases: LeaseSettings
) -> Members:
    def life_of(peer: str) -> tuple[int, tuple[str, int] | None]:
        channel = channels.get(peer)
        return (0, None) if channel is None else (channel.creation, channel.address)

    return Members(
        name,
        creation,
        network=channels,
        life_of=life_of,
        clock=SystemClock(),
        rng=SeededRng(sum(name.encode())),
        settings=leases,
    )


@asynccontextmanager
async def service_node(
    name: str,
    *,
    creation: int = 7,
    leases: LeaseSettings = FAST,
    settings: EngineSettings | None = None,
    anti_entropy_ms: int = 0,
    elsewhere: Elsewhere | None = None,
) -> AsyncIterator[ServiceNode]:
    """A node that is not connected to anyone yet."""
    async with AsyncExitStack() as stack:
        replica = await stack.enter_async_context(
            replica_node(
                name,
                creation=creation,
                settings=settings,
                anti_entropy_ms=anti_entropy_ms,
                started=False,
            )
        )
        channels = replica.node.channels
        switch = Switch(name, creation, asyncio.get_running_loop())
        replica.node.endpoint.pump.set_after_dispatch(switch.resume)
        stack.callback(switch.close)
        processes = Processes(switch, node=name)

        async def end_processes() -> None:
            await processes.stop(timeout=5)

        stack.push_async_callback(end_processes)

        members = _members(name, creation, channels, leases)
        stack.push_async_callback(members.close)
        channels.dispatcher.register(
            MEMBER_KINDS, members.handle_frame, role=StreamRole.GOSSIP
        )
        registry = Registry(
            name,
            creation,
            replicas=replica.replicas,
            processes=processes,
            clock=SystemClock(),
            hlc=replica.clock,
            rng=SeededRng(sum(name.encode())),
            elsewhere=elsewhere,
        )
        stack.callback(registry.close)
        made = ServiceNode(replica, processes, members, registry)
        members.listen(registry.member_changed)
        members.listen(made.member_events.append)
        registry.listen(made.events.append)
        channels.listen(made.channel_changed)
        members.start()
        registry.start({})
        yield made


@asynccontextmanager
async def service_nodes(count: int, **options: Any) -> AsyncIterator[list[ServiceNode]]:
    """``count`` nodes, each with a channel to every other, all of them members."""
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(service_node(f"n{i}@h", **options))
            for i in range(count)
        ]
        for i, first in enumerate(made):
            for second in made[i + 1 :]:
                await connected(first.replica.node, second.replica.node)
        everyone = [node.name for node in made]
        await eventually(lambda: all(n.members.alive() == everyone for n in made))
        yield made
