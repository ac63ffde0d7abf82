"""What a node does as part of a cluster: join, leave, look around, broadcast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import Conflict
from barrel_p2p.node.run import self_pid
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.runtime.typed import lower
from barrel_p2p.wire.terms import encode

if TYPE_CHECKING:
    from barrel_p2p.core.names import Address, HasAddress, NodeReference
    from barrel_p2p.node.parts import Parts
    from barrel_p2p.node.topics import Broadcasted
    from barrel_p2p.replica.callbacks import Replica
    from barrel_p2p.replica.driver import ReplicaHandle

__all__ = ["ClusterNode"]


class ClusterNode(ABC):
    """The part of ``Node`` that is about its cluster."""

    name: str
    hidden: bool

    @abstractmethod
    def _running(self) -> Parts:
        """What the node is made of; NotStarted if it does not run."""

    # ---- membership

    async def join(
        self,
        contact_node: str | Address | NodeReference | HasAddress,
        *,
        timeout: float | None = 10.0,
    ) -> None:
        """Become part of the cluster of ``contact_node``, also after ``leave``.

        Args:
            contact_node: As for ``connect``. It is contacted again when need be.
            timeout: Seconds.

        Raises:
            Conflict: It is this node, or blocked here, or this node is hidden.
            PeerUnreachable, AuthError, VersionMismatch: As for ``connect``.
            CallTimeout: No node of the cluster took this one in.

        Guarantee:
            When it returns, this node has a peer and is one.
        """
        parts = self._overlay()
        # Not sooner: what former peers still say would make members of this node's
        # before it is in, and who fails to join would have to lose them again.
        await parts.membership.join(
            contact_node, timeout=timeout, reached=parts.members.come_back
        )

    async def leave(self) -> None:
        """Leave the cluster, and stay out until the next ``join``. Channels stay.

        Guarantee:
            When it returns, this node is the only member that it knows, it finds no
            services but its own, and the others are being told that it is dead.
        """
        parts = self._overlay()
        parts.members.leave()
        await parts.membership.leave()

    def active_view(self) -> list[str]:
        """The peers: neighbours that gossip goes to. Each has this node as a peer."""
        return self._overlay().membership.active_view()

    def passive_view(self) -> list[str]:
        """Nodes that may become peers when one is lost."""
        return self._overlay().membership.passive_view()

    def members(self) -> list[str]:
        """All nodes of the cluster that are not dead, this one included, sorted."""
        return self._overlay().members.alive()

    def suspects(self) -> list[str]:
        """Members that somebody could not reach and that have yet to answer, sorted."""
        return self._overlay().members.suspects()

    def block_peers(self, nodes: Iterable[str]) -> None:
        """Keep ``nodes`` out of both views; for tests of partitions.

        Raises:
            InvalidValue: One is no node name.
        """
        self._overlay().membership.block_peers(nodes)

    def unblock_peers(self, nodes: Iterable[str] | None = None) -> None:
        """Let ``nodes``, or all, in again."""
        self._overlay().membership.unblock_peers(nodes)

    def churn_stats(self) -> tuple[int, int]:
        """Peers that came and that went in the current ``churn_window_ms``."""
        return self._overlay().membership.churn_stats()

    # ---- events

    async def subscribe(self, pid: Pid | None = None) -> None:
        """Send ``PeerUp``, ``PeerDown``, ``Joined``, ``Left`` and what happens to
        members and channels to a process. Twice is once.

        Args:
            pid: A process of this node; None is the one that asks.

        Raises:
            InvalidValue: It is of another node.
            NoProc: There is no such process.
        """
        self._running().events.add(pid or self_pid())

    async def unsubscribe(self, pid: Pid | None = None) -> None:
        """Send them no more. Idempotent."""
        self._running().events.remove(pid or self_pid())

    def events(self, *, maxsize: int = 1_024) -> EventStream[Any]:
        """What happens to peers, members and channels, from now on.

        ``PeerUp``, ``PeerDown``, ``Joined``, ``Left``; ``MemberUp``,
        ``MemberSuspected``, ``MemberDead``, ``MemberGone``; ``NodeUp``, ``NodeDown``.

        Args:
            maxsize: Events that may wait; when there are more, the oldest go and
                ``Lagged`` says how many.
        """
        return self._running().events.stream(maxsize)

    # ---- broadcast

    async def broadcast(
        self, topic: str, payload: object, *, msg_id: bytes | None = None
    ) -> bytes:
        """Tell every node of the cluster, this one included.

        Args:
            topic: 1 to 255 bytes in UTF-8.
            payload: Any term, or a typed message.
            msg_id: 16 bytes; None draws them. A second broadcast of one id is dropped.

        Returns:
            The id.

        Raises:
            InvalidValue: The topic or the payload is too large.
            NotEncodable: ``payload`` has no form on the wire.

        Guarantee:
            Waits while the way to a peer is full. Each node that stays connected gets
            it once, in no order with other broadcasts.
        """
        body = encode(lower(payload))
        return await self._overlay().broadcast.broadcast(topic, body, message_id=msg_id)

    def broadcasts(
        self, topic: str, *, maxsize: int = 1_024
    ) -> EventStream[Broadcasted]:
        """The broadcasts of a topic, from now on; this node's own, too."""
        return self._overlay().topics.stream(topic, maxsize)

    async def subscribe_broadcasts(self, topic: str, pid: Pid | None = None) -> None:
        """Send the broadcasts of a topic to a process, as ``Broadcasted``.

        Raises:
            InvalidValue: ``pid`` is of another node.
            NoProc: There is no such process.
        """
        self._overlay().topics.add(topic, pid or self_pid())

    async def unsubscribe_broadcasts(self, topic: str, pid: Pid | None = None) -> None:
        """Send them no more. Idempotent."""
        self._running().topics.remove(topic, pid or self_pid())

    def broadcast_stats(self) -> dict[str, int]:
        """What the broadcast tree looks like and what it did, by documented names."""
        return self._overlay().broadcast.stats()

    # ---- replicas

    async def start_replica(
        self,
        name: str,
        callback: Replica,
        *,
        tombstone_ttl_ms: int | None = None,
    ) -> ReplicaHandle:
        """Keep the OR-Map of ``callback`` alike on every node that runs this replica.

        Args:
            name: The same on every node; 1 to 200 bytes in UTF-8.
            callback: Its owner: a ``ReplicatedStore``, or an object of your own.
            tombstone_ttl_ms: Age of removals, at least, that the owner is told to
                forget; None for never. Without ``replica_collect`` it means nothing.

        Raises:
            InvalidValue: ``name`` is empty or too long, or ``callback`` lacks one of
                the four callbacks.
            Conflict: A replica of that name runs on this node already.
        """
        return self._overlay().replicas.start(
            name, callback, tombstone_ttl_ms=tombstone_ttl_ms
        )

    def replica_stats(self) -> Mapping[str, int]:
        """What the replicas of this node sent, merged, compared and refused."""
        return self._overlay().replicas.stats()

    # ---- inside

    def _overlay(self) -> Parts:
        parts = self._running()
        if parts.membership is None:
            raise Conflict(
                f"{self.name} is hidden and no part of a cluster",
                hint="start the node without hidden=True",
            )
        return parts
