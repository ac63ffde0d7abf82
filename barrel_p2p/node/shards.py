"""What a node does with placement: whose a key is, and what this node owns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from barrel_p2p.core.names import NodeReference
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import StorageError
from barrel_p2p.membership.peer_file import load_peers
from barrel_p2p.node.run import self_pid
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.runtime.pauses import AFTER_MS_MIN
from barrel_p2p.services.shard import HandOffHook, Shards
from barrel_p2p.services.shard_events import ShardEvent
from barrel_p2p.services.shard_inputs import ShardSettings

if TYPE_CHECKING:
    from barrel_p2p.config import Config
    from barrel_p2p.node.parts import Parts

__all__ = ["ShardNode", "has_somebody_to_hear", "pause_ms", "shards"]


@asynccontextmanager
async def shards(parts: Parts) -> AsyncIterator[None]:
    """Own what falls to this node; give it back, awaiting the hooks, at the end."""
    config = parts.config
    parts.shards = made = Shards(
        parts.name,
        config.ring_size,
        members=parts.members,
        pauses=parts.pauses,
        pause_ms=pause_ms(config),
        switch=parts.switch,
        clock=parts.clock,
        settings=ShardSettings(
            ttl_ms=config.member_ttl_ms,
            grace_ms=config.member_heartbeat_ms // 4,
            hand_off_ms=config.member_ttl_ms,
        ),
    )
    forget = parts.members.listen(made.member_changed)
    made.start(waits=has_somebody_to_hear(parts))
    try:
        yield
    finally:
        await made.close(parts.left())
        forget()


def pause_ms(config: Config) -> int:
    """After how long a pause of ours others may hold this node for dead.

    Its last heartbeat can be one period old when it is stopped, and its last packet a
    keep-alive. From then on its lease runs out, or its channels do, and it has
    ``suspect_ms`` to answer.
    """
    lease_ms = config.member_ttl_ms - config.member_heartbeat_ms
    silence_ms = config.keep_alive_ms or config.idle_timeout_ms // 3
    channel_ms = max(config.idle_timeout_ms - silence_ms, 0)
    verdict_ms = min(lease_ms, channel_ms) + config.suspect_ms
    return max(min(config.member_ttl_ms, verdict_ms), AFTER_MS_MIN)


def has_somebody_to_hear(parts: Parts) -> bool:
    """Whether there is a cluster, perhaps, that this node will be of."""
    contacts = [NodeReference.parse(each).name for each in parts.config.contact_nodes]
    with suppress(StorageError):  # Membership has said what is wrong with the file.
        contacts += [peer.name for peer in load_peers(parts.directory.peers)]
    return any(name != parts.name for name in contacts)


class ShardNode(ABC):
    """The part of ``Node`` that is about placement."""

    @abstractmethod
    def _overlay(self) -> Parts:
        """What the node is made of; NotStarted if it runs not, Conflict if hidden."""

    def place(self, key: object) -> str | None:
        """The node that should have ``key``: the same answer on every node.

        Args:
            key: A key term: text, bytes, an integer, or a tuple of those.

        Returns:
            The owner's name. None while this node does not know its cluster: until it
            has heard a member, or, if nobody answers, for ``member_ttl_ms``.

        Raises:
            NotEncodable: ``key`` is no key term.

        Guarantee:
            Nodes that know the same members give the same answer, on any platform.
        """
        return self._overlay().shards.place(key)

    def owners(self, key: object, n: int) -> list[str]:
        """The ``n`` nodes that should have ``key``, the owner first; for replicas.

        Args:
            key: A key term.
            n: How many, at least 1. There are no more than members.

        Raises:
            NotEncodable: ``key`` is no key term.
            InvalidValue: ``n`` is below 1.
        """
        return self._overlay().shards.owners(key, n)

    def is_owner(self, key: object) -> bool:
        """Whether ``key`` is this node's now.

        Raises:
            NotEncodable: ``key`` is no key term.

        Guarantee:
            False after this node was stopped for so long that others may have taken
            over, until it has heard them again.
        """
        return self._overlay().shards.is_owner(key)

    def partition(self, key: object) -> int:
        """The partition of ``key``, 0 to ``ring_size - 1``; it never changes.

        Raises:
            NotEncodable: ``key`` is no key term.
        """
        return self._overlay().shards.partition(key)

    def owned_partitions(self) -> list[int]:
        """What this node has acquired and not yet released, sorted.

        For whoever starts to listen: ``shard_events`` tells only what changes.
        """
        return self._overlay().shards.owned_partitions()

    async def subscribe_shard(self, pid: Pid | None = None) -> None:
        """Send ``Acquired`` and ``Released`` to a process. Twice is once.

        Args:
            pid: A process of this node; None is the one that asks.

        Raises:
            InvalidValue: It is of another node.
            NoProc: There is no such process.
        """
        self._overlay().shards.subscribe(pid or self_pid())

    async def unsubscribe_shard(self, pid: Pid | None = None) -> None:
        """Send them no more. Idempotent."""
        self._overlay().shards.unsubscribe(pid or self_pid())

    def shard_events(self, *, maxsize: int = 1_024) -> EventStream[ShardEvent]:
        """``Acquired`` and ``Released``, from now on.

        Args:
            maxsize: Events that may wait; when there are more, the oldest go and
                ``Lagged`` says how many.
        """
        return self._overlay().shards.events(maxsize=maxsize)

    def on_hand_off(
        self,
        *,
        acquired: HandOffHook | None = None,
        released: HandOffHook | None = None,
    ) -> Callable[[], None]:
        """Have work done before a partition changes hands.

        Args:
            acquired: Awaited with the partition before ``Acquired`` is told.
            released: Awaited with the partition before ``Released`` is told; also for
                each one whose ``acquired`` had begun, and for all when the node stops.

        Returns:
            A function that takes the hooks back.

        Guarantee:
            One hook at a time for a partition; those of several run side by side. What
            has not ended after ``member_ttl_ms`` is cancelled, and what raises is
            logged: the partition changes hands all the same. A node that stops says so
            to the others only after that, and one that was stopped for too long tells
            ``Released`` first.
        """
        return self._overlay().shards.on_hand_off(acquired=acquired, released=released)
