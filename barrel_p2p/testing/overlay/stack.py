"""The machines of a real node, wired for the simulator as ``node/boot.py`` does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, cast, final

from barrel_p2p.broadcast import messages as broadcast_messages
from barrel_p2p.broadcast.machine import Plumtree
from barrel_p2p.broadcast.messages import Delivery
from barrel_p2p.core.effects import Machine
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import PeerDown, PeerUp
from barrel_p2p.membership import messages as membership_messages
from barrel_p2p.membership.commands import Start
from barrel_p2p.membership.machine import HyParView
from barrel_p2p.membership.settings import Settings
from barrel_p2p.replica import messages as replica_messages
from barrel_p2p.replica.machine import ReplicaMachine
from barrel_p2p.testing.overlay.chance import SimRng
from barrel_p2p.testing.overlay.nodes import Codec, SimNode
from barrel_p2p.testing.overlay.replica import ANTI_ENTROPY_MS, Replicated
from barrel_p2p.testing.overlay.rooms import Room
from barrel_p2p.testing.overlay.traffic import Traffic
from barrel_p2p.wire.kinds import Kind

__all__ = ["BROADCAST", "MEMBERSHIP", "Stack", "address_of"]

MEMBERSHIP: Final = Codec(
    cast("Callable[[object], tuple[int, bytes]]", membership_messages.encode),
    membership_messages.decode,
    {
        membership_messages.Join: Kind.JOIN,
        membership_messages.ForwardJoin: Kind.FORWARD_JOIN,
        membership_messages.Neighbor: Kind.NEIGHBOR,
        membership_messages.NeighborReply: Kind.NEIGHBOR_REPLY,
        membership_messages.Disconnect: Kind.DISCONNECT,
        membership_messages.Shuffle: Kind.SHUFFLE,
        membership_messages.ShuffleReply: Kind.SHUFFLE_REPLY,
    },
)
_SYNC: Final[dict[type, int]] = {
    replica_messages.SyncRequest: Kind.SYNC_REQUEST,
    replica_messages.SyncChunk: Kind.SYNC_CHUNK,
    replica_messages.SyncDone: Kind.SYNC_DONE,
}


def _encode(message: object) -> tuple[int, bytes]:
    if type(message) in _SYNC:
        return replica_messages.encode(cast("replica_messages.SyncMessage", message))
    return broadcast_messages.encode(cast("broadcast_messages.Message", message))


def _decode(kind: int, body: bytes) -> object:
    if kind in _SYNC.values():
        return replica_messages.decode(kind, body)
    return broadcast_messages.decode(kind, body)


BROADCAST: Final = Codec(
    _encode,
    _decode,
    {
        broadcast_messages.Gossip: Kind.GOSSIP,
        broadcast_messages.IHave: Kind.IHAVE,
        broadcast_messages.Graft: Kind.GRAFT,
        broadcast_messages.Prune: Kind.PRUNE,
        **_SYNC,
    },
)

_PORT: Final = 9100
_SEEN_MAX: Final = 1 << 14


def address_of(index: int, name: str) -> Address:
    """Where the node of that index listens."""
    return Address(name, f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}", _PORT)


@final
class Stack:
    """Makes the rooms of nodes: membership first, then broadcast.

    Args:
        traffic: Hears of deliveries.
        settings: Of the views, the same for all; ``contact_nodes`` is ignored.
        has_replica: Every node holds a replica; see ``Replicated``.
        wrap_membership: Puts another machine in the place of the first, such as one
            with a known defect.
        wrap_broadcast: The same for the second.
        wrap_replica: The same for the replica's.

    Attributes:
        contacts: Index of a node to those of its ``contact_nodes``.
        replicas: Index of a node to its replica, in its newest life.
    """

    def __init__(
        self,
        traffic: Traffic,
        *,
        settings: Settings | None = None,
        has_replica: bool = False,
        wrap_membership: Callable[[HyParView], Machine] | None = None,
        wrap_broadcast: Callable[[Plumtree], Machine] | None = None,
        wrap_replica: Callable[[ReplicaMachine], Machine] | None = None,
    ) -> None:
        self.contacts: dict[int, Sequence[int]] = {}
        self.replicas: dict[int, Replicated] = {}
        self._traffic = traffic
        self._settings = settings or Settings()
        self._has_replica = has_replica
        self._wrap_membership = wrap_membership
        self._wrap_broadcast = wrap_broadcast
        self._wrap_replica = wrap_replica

    def build(self, node: SimNode) -> tuple[Room, ...]:
        """The rooms of ``node``, which starts."""
        world = node.world
        seed = world.seed << 48 | node.life << 24 | node.index << 1
        views = HyParView(
            address_of(node.index, node.name),
            replace(self._settings, contact_nodes=self._contacts_of(node)),
            SimRng(seed),
        )
        tree = Plumtree(node.name, rng=SimRng(seed | 1), ids_max=_SEEN_MAX)
        traffic = self._traffic

        def on_membership(event: object) -> None:
            if isinstance(event, PeerUp | PeerDown):
                node.peer_changed(event.node, is_up=type(event) is PeerUp)
                gossip.feed(event)

        def on_broadcast(event: object) -> None:
            if type(event) is Delivery:
                traffic.delivered(node, gossip, event)

        remembered = cast("tuple[Address, ...]", node.disk.get("peers", ()))
        wrap_views, wrap_tree = self._wrap_membership, self._wrap_broadcast
        broadcasts = tree if wrap_tree is None else wrap_tree(tree)
        first = None
        if self._has_replica:
            broadcasts = self._replica(node, broadcasts)
            first = broadcasts.start
        membership = Room(
            node,
            views if wrap_views is None else wrap_views(views),
            MEMBERSHIP,
            on_membership,
            world.deliver[0],
            Start(remembered),
        )
        gossip = Room(
            node,
            broadcasts,
            BROADCAST,
            on_broadcast,
            world.deliver[1],
            first,
        )
        return membership, gossip

    def _replica(self, node: SimNode, tree: Machine) -> Replicated:
        seed = node.world.seed << 48 | node.life << 24 | node.index
        replica = ReplicaMachine(
            node=node.name,
            creation=node.life,
            rng=SimRng(seed ^ 0x7265706C696361 << 64),
            anti_entropy_ms=ANTI_ENTROPY_MS,
        )
        wrap = self._wrap_replica
        both = self.replicas[node.index] = Replicated(
            tree,
            replica if wrap is None else wrap(replica),
            node=node.name,
            clock=node,
        )
        return both

    def _contacts_of(self, node: SimNode) -> tuple[Address, ...]:
        nodes = node.world.nodes
        return tuple(
            address_of(index, nodes[index].name)
            for index in self.contacts.get(node.index, ())
            if index != node.index
        )
