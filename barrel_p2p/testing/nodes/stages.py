"""What a simulated node starts: the real overlay and processes, on simulated ground.

Data directory, keys, socket, QUIC, handshakes, discovery and the control socket have
simulated stages, or none. So have messages between processes of different nodes: their
lines are compiled onto the engine, and a simulated node has none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast, final

from barrel_p2p.carrier.session import Session
from barrel_p2p.config import Config
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.discovery.chain import Chain
from barrel_p2p.node.boot import processes, switched
from barrel_p2p.node.node import Node
from barrel_p2p.node.overlay import overlay
from barrel_p2p.node.parts import Parts, Stage
from barrel_p2p.node.state import state
from barrel_p2p.node.whereabouts import Whereabouts
from barrel_p2p.testing.nodes.disk import SimStores
from barrel_p2p.testing.nodes.endpoint import NoKeys, SimChannels, SimEndpoint
from barrel_p2p.testing.nodes.network import Machine, Network

if TYPE_CHECKING:
    from barrel_p2p.core.clock import Clock

__all__ = ["SIMULATED_STAGES", "SimNode"]


@final
class SimNode(Node):
    """A node on a simulated machine, for one of its lives.

    Args:
        machine: Where it runs.
        network: What that is part of.
        config: As for ``Node``.
        seed: Of this life's chance.
        creation: Of this life.
        peers: The file of remembered peers, which outlives it.
        send_high: Bytes of a stream's queue at which writers wait.
    """

    stages: ClassVar[tuple[Stage, ...]] = ()

    def __init__(
        self,
        machine: Machine,
        network: Network,
        config: Config,
        *,
        seed: int,
        creation: int,
        peers: Path,
        send_high: int,
    ) -> None:
        clock: Clock = machine.clock
        super().__init__(machine.address.name, config, clock=clock)
        self.machine = machine
        self.network = network
        self.seed = seed
        self.life = creation
        self.peers_file = peers
        self.send_high = send_high

    @property
    def parts(self) -> Parts:
        """What it is made of, for checks.

        Raises:
            NotStarted: It is not running.
        """
        return self._running()


@final
class _Directory:
    """As much of a data directory as the overlay uses."""

    def __init__(self, creation: int, peers: Path) -> None:
        self.creation = creation
        self.peers = peers

    def resolve(self, path: str) -> Path:
        """Where the machine's disk has ``path``."""
        return Path(path)


@asynccontextmanager
async def ground(parts: Parts) -> AsyncIterator[None]:
    """Directory, clock and port of the machine."""
    node = cast("SimNode", parts.node)
    config = parts.config
    parts.directory = cast("Any", _Directory(node.life, node.peers_file))
    disk = node.machine.disk
    parts.hlc = hlc = HLC(
        parts.clock,
        max_drift_ms=config.hlc_max_drift_ms,
        floor=disk.floor,
        node=parts.name,
    )
    parts.stores = SimStores(disk, hlc)
    parts.trust = cast("Any", NoKeys())
    parts.address = node.machine.address
    endpoint = SimEndpoint(
        node.network,
        node.machine,
        idle_timeout_ms=config.idle_timeout_ms,
        keep_alive_ms=config.keep_alive_ms or config.idle_timeout_ms // 3,
        send_high=node.send_high,
    )
    parts.endpoint = cast("Any", endpoint)
    life = disk.life
    try:
        yield
    finally:
        if disk.life == life:
            disk.floor = hlc.now()
        endpoint.close()


@asynccontextmanager
async def messages(parts: Parts) -> AsyncIterator[None]:
    """The switch, for processes of this node."""
    with switched(parts):
        yield


@asynccontextmanager
async def channels(parts: Parts) -> AsyncIterator[None]:
    """The channels, over the simulated port."""
    config = parts.config
    parts.chain = Chain((), clock=parts.clock)
    parts.whereabouts = Whereabouts(parts)
    parts.channels = made = SimChannels(
        cast("Any", parts.endpoint),
        session=Session(
            creation=parts.switch.creation,
            address=(parts.address.host, parts.address.port),
            ring_size=config.ring_size,
            member_heartbeat_ms=config.member_heartbeat_ms,
            member_ttl_ms=config.member_ttl_ms,
            data_streams=config.data_streams,
            package="simulated",
            python="simulated",
        ),
        resolve=parts.whereabouts.resolve,
    )
    made.listen(parts.whereabouts.node_changed)
    made.listen(lambda event: _node_changed(parts, event))
    try:
        yield
    finally:
        await made.close(drain=parts.left())


def _node_changed(parts: Parts, event: NodeUp | NodeDown) -> None:
    if isinstance(event, NodeUp):
        parts.processes.node_up(event.node)
    else:
        parts.processes.node_lost(event.node, event.reason)
    parts.events.tell(event)


SIMULATED_STAGES: Final[tuple[Stage, ...]] = (
    ground,
    messages,
    channels,
    processes,
    overlay,
    state,
)

SimNode.stages = SIMULATED_STAGES
