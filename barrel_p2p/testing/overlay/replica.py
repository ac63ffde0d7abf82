"""A replica on every simulated node, over the same broadcasts and channels.

The machine of ``replica``, its store and its encoded gossip are the real ones; what is
done here is what ``replica/driver.py`` does with sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from barrel_p2p.broadcast.machine import BroadcastMessage
from barrel_p2p.broadcast.messages import Delivery
from barrel_p2p.core.clock import WallClock
from barrel_p2p.core.effects import Effect, Machine, Publish
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.ormap import OrMap
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.replica.driver import topic_of
from barrel_p2p.replica.machine import (
    Gossiped,
    Learned,
    MergeDelta,
    MergeSnapshot,
    Outgoing,
    Sent,
    Start,
    Write,
)
from barrel_p2p.replica.messages import (
    SyncChunk,
    SyncDone,
    SyncRequest,
    decode_gossip,
    encode_gossip,
)
from barrel_p2p.replica.store import ReplicatedStore

__all__ = ["ANTI_ENTROPY_MS", "Replicated", "Update"]

ANTI_ENTROPY_MS: Final = 30_000
"""``replica_anti_entropy_ms`` as it is by default."""

_NAME: Final = "sim"
_TOPIC: Final = topic_of(_NAME)
_FOR_REPLICA: Final = frozenset({Start, NodeUp, NodeDown})
_FOR_BOTH: Final = frozenset({PeerUp, PeerDown})
_SYNC: Final = frozenset({SyncRequest, SyncChunk, SyncDone})


@final
@dataclass(frozen=True, slots=True)
class Update:
    """Told: the owner of the replica adds ``value`` to ``key``, or removes it if None.

    Args:
        key: Any key term.
        value: Any term but None.
    """

    key: object
    value: object


@final
class Replicated:
    """The broadcast machine of a node and a replica that gossips by it, as one machine.

    Args:
        tree: The broadcast machine.
        replica: The replica's machine.
        node: The node's name.
        clock: The node's time of day.

    Attributes:
        entries: What the replica holds.
    """

    def __init__(
        self, tree: Machine, replica: Machine, *, node: str, clock: WallClock
    ) -> None:
        self.entries = OrMap(node, HLC(clock))
        self._tree = tree
        self._store = ReplicatedStore(self.entries, clock=clock)
        self._replica = replica

    @property
    def start(self) -> Start:
        """What this machine is told first."""
        return Start(_NAME, self.entries)

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Hand the input to whom it is for, and what comes of it to the other."""
        out: list[Effect] = []
        kind = type(event)
        if isinstance(event, Update):
            removes = event.value is None
            op = ("remove", event.key) if removes else ("add", event.key, event.value)
            delta = self._store.replica_write(_NAME, op)
            self._tell(Write(_NAME, delta), now_ms, out)
        elif kind in _FOR_REPLICA or _is_of_replica(event):
            self._tell(event, now_ms, out)
        else:
            self._take(self._tree.handle(event, now_ms=now_ms), now_ms, out)
            if kind in _FOR_BOTH:
                self._tell(event, now_ms, out)
        return out

    def _take(self, effects: list[Effect], now_ms: int, out: list[Effect]) -> None:
        """What the broadcast machine orders; deliveries of ours go to the replica."""
        for effect in effects:
            told = effect.event if type(effect) is Publish else None
            if type(told) is Delivery and told.topic == _TOPIC:
                if not told.own:
                    message = decode_gossip(told.payload)
                    self._tell(Gossiped(_NAME, message), now_ms, out)
            else:
                out.append(effect)

    def _tell(self, event: object, now_ms: int, out: list[Effect]) -> None:
        for effect in self._replica.handle(event, now_ms=now_ms):
            if type(effect) is Publish:
                self._perform(effect.event, now_ms, out)
            else:
                out.append(effect)

    def _perform(self, order: object, now_ms: int, out: list[Effect]) -> None:
        match order:
            case Outgoing(_, message):
                told = BroadcastMessage(_TOPIC, encode_gossip(message))
                self._take(self._tree.handle(told, now_ms=now_ms), now_ms, out)
                self._tell(Sent(_NAME), now_ms, out)
            case MergeDelta(_, entries):
                self._store.replica_merge_delta(_NAME, entries)
            case MergeSnapshot(_, entries, peer):
                if self._store.replica_apply_full_sync(_NAME, entries):
                    self._tell(Learned(_NAME, peer), now_ms, out)
            case _:
                pass  # That a round is over concerns nobody here.


def _is_of_replica(event: object) -> bool:
    if isinstance(event, Received):
        return type(event.message) in _SYNC
    # Keys of the broadcast machine's timers are strings.
    return isinstance(event, TimerFired) and isinstance(event.key, tuple)
