"""When a replica gossips what it wrote, and with whom it compares what it has.

Writes of one loop turn become one delta, stamped where they were made; while gossip has
no room they wait, and a later write to the same key takes the place of the earlier. A
new neighbour is synced with, a replica that starts syncs with all neighbours, and every
``replica_anti_entropy_ms`` each replica compares digests with one of them. Whoever
learns in a sync what is no news goes on to compare with its other neighbours, so that
what two halves of a cluster have missed crosses each of them in seconds.

A neighbour that goes takes nothing with it: who is dead is decided elsewhere.

Source: docs/reference/wire.md, "Replicas".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from barrel_p2p.core.effects import CancelTimer, Effect, Publish, SetTimer
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.ormap import Delta, Entry
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.errors import WireError
from barrel_p2p.replica.limits import (
    CHUNK_BYTES_MAX,
    COLLECT_EVERY_MS,
    SECOND_ASKER_MS,
    SPREAD_MS,
)
from barrel_p2p.replica.messages import (
    CustomMessage,
    DeltaMessage,
    GossipMessage,
    Origin,
)
from barrel_p2p.replica.pieces import Pieces, StoreReader
from barrel_p2p.replica.rounds import MergeSnapshot, Rounds, Synced
from barrel_p2p.wire.crdt_ingest import decode_delta

__all__ = [
    "CatchUp",
    "Collect",
    "Gossiped",
    "Learned",
    "MergeCustom",
    "MergeDelta",
    "MergeSnapshot",
    "Outgoing",
    "ReplicaMachine",
    "ReplicaStats",
    "Sent",
    "Start",
    "Stop",
    "Synced",
    "Unsent",
    "Write",
]

_FLUSH: Final = "flush"
_COMPARE: Final = "compare"
_SECOND: Final = "second"
_COLLECT: Final = "collect"
_SPREAD: Final = "spread"
_OF_REPLICAS: Final = (_FLUSH, _COMPARE, _COLLECT, _SPREAD)


@final
@dataclass(frozen=True, slots=True)
class Start:
    """Told: ``replica`` runs here from now on.

    Args:
        replica: Its name.
        store: For digests and buckets.
        anti_entropy: Whether it takes part in the periodic comparison as leader.
        horizon_ms: Age of tombstones, at least, that may go; None keeps them all.
        collect_every_ms: Between two looks for such tombstones.
    """

    replica: str
    store: StoreReader
    anti_entropy: bool = True
    horizon_ms: int | None = None
    collect_every_ms: int = COLLECT_EVERY_MS


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """Told: ``replica`` runs here no more."""

    replica: str


@final
@dataclass(frozen=True, slots=True)
class Write:
    """Told: the owner of ``replica`` has written ``entries``."""

    replica: str
    entries: Delta


@final
@dataclass(frozen=True, slots=True)
class Sent:
    """Told: gossip has taken the last ``Outgoing`` of ``replica`` and has room."""

    replica: str


@final
@dataclass(frozen=True, slots=True)
class Gossiped:
    """Told: a broadcast about ``replica`` was delivered, also if it is our own."""

    replica: str
    message: GossipMessage


@final
@dataclass(frozen=True, slots=True)
class Unsent:
    """Told: the channel to ``peer`` had no room for ``message``."""

    peer: str
    message: object


@final
@dataclass(frozen=True, slots=True)
class Learned:
    """Told: ``peer`` has told us in a sync what gossip should have brought long ago.

    Others may lack it as well, so they are asked; nothing is gossiped a second time.
    """

    replica: str
    peer: str


@final
@dataclass(frozen=True, slots=True)
class CatchUp:
    """Told: lead a round with ``peer``, or with every neighbour if None.

    Something may have been missed, such as gossip while its room was restarted.
    """

    replica: str
    peer: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Outgoing:
    """Ordered: gossip ``message``, then tell ``Sent``."""

    replica: str
    message: DeltaMessage


@final
@dataclass(frozen=True, slots=True)
class MergeDelta:
    """Ordered: merge what ``origin`` has gossiped."""

    replica: str
    entries: Delta
    origin: Origin


@final
@dataclass(frozen=True, slots=True)
class MergeCustom:
    """Ordered: hand the owner a term, still encoded, that ``origin`` has gossiped."""

    replica: str
    payload: bytes
    origin: Origin


@final
@dataclass(frozen=True, slots=True)
class Collect:
    """Ordered: tombstones of at least this age, in milliseconds, may go."""

    replica: str
    age_ms: int


@dataclass(slots=True)
class ReplicaStats:
    """What happened to gossip, in numbers that only grow."""

    deltas_sent: int = 0
    deltas_received: int = 0
    echoes: int = 0
    malformed: int = 0
    unknown: int = 0
    unsendable: int = 0
    collections_put_off: int = 0


@final
@dataclass(slots=True)
class _Replica:
    store: StoreReader
    anti_entropy: bool
    horizon_ms: int | None
    collect_every_ms: int
    started_ms: int
    seq: int = 0
    pending: dict[bytes, Entry] = field(default_factory=dict)
    armed: bool = False
    sending: Pieces | None = None
    synced_ms: dict[str, int] = field(default_factory=dict)  # neighbour -> when
    teachers: dict[str, None] = field(default_factory=dict)  # since the last spread


@final
class ReplicaMachine:
    """All replicas of one node.

    Args:
        node: Its name.
        creation: Its life.
        rng: For peers, delays and round numbers.
        anti_entropy_ms: Period of the comparison, 25 % more or less; 0 for never.

    Attributes:
        stats: Counters of gossip.
        rounds: The sync rounds, with counters of their own.
    """

    def __init__(
        self, *, node: str, creation: int, rng: Rng, anti_entropy_ms: int
    ) -> None:
        self.stats = ReplicaStats()
        self._node = node
        self._creation = creation
        self._rng = rng
        self._anti_entropy_ms = anti_entropy_ms
        self._replicas: dict[str, _Replica] = {}
        self._stores: dict[str, StoreReader] = {}
        self._peers: dict[str, None] = {}
        self.rounds = Rounds(node, rng, self._stores)
        # Typed by its key: each handler is only given events of that type.
        self._handlers: dict[type, Callable[..., None]] = {
            Gossiped: self._on_gossip,
            Received: self._on_frame,
            TimerFired: self._on_timer,
            Write: self._on_write,
            Sent: self._on_sent,
            Unsent: self._on_unsent,
            PeerUp: self._on_peer_up,
            PeerDown: self._on_peer_down,
            NodeUp: self._on_node_up,
            NodeDown: self._on_node_down,
            Start: self._on_start,
            Stop: self._on_stop,
            CatchUp: self._on_catch_up,
            Learned: self._on_learned,
        }

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Take one input and return what is to be done about it, in order."""
        out: list[Effect] = []
        self._handlers[type(event)](event, now_ms, out)
        for effect in out:
            if type(effect) is Publish and type(effect.event) is Synced:
                self._note_synced(effect.event, now_ms)
        return out

    def next_origin(self, replica: str) -> Origin:
        """The origin of what ``replica``, which runs here, gossips next."""
        state = self._replicas[replica]
        state.seq += 1
        return Origin(self._node, self._creation, state.seq)

    def pending(self, replica: str) -> int:
        """How many written keys of ``replica`` wait for gossip."""
        state = self._replicas.get(replica)
        return 0 if state is None else len(state.pending)

    def is_quiet(self, replica: str) -> bool:
        """Whether gossip has taken everything that was written."""
        state = self._replicas.get(replica)
        return state is None or not (state.pending or state.sending)

    def neighbours(self) -> list[str]:
        """The peers in the active view, in the order in which they came."""
        return list(self._peers)

    # Replicas.

    def _on_start(self, event: Start, now_ms: int, out: list[Effect]) -> None:
        name = event.replica
        self._replicas[name] = _Replica(
            event.store,
            event.anti_entropy,
            event.horizon_ms,
            event.collect_every_ms,
            now_ms,
        )
        self._stores[name] = event.store
        if event.anti_entropy:
            self._arm_compare(name, out)
        if event.horizon_ms is not None:
            out.append(SetTimer((_COLLECT, name), event.collect_every_ms))
        for peer in self._peers:
            self.rounds.want(peer, name, out)

    def _on_stop(self, event: Stop, now_ms: int, out: list[Effect]) -> None:
        name = event.replica
        if self._replicas.pop(name, None) is None:
            return
        del self._stores[name]
        out.extend(CancelTimer((what, name)) for what in _OF_REPLICAS)
        self.rounds.forget_replica(name, out)

    # Gossip.

    def _on_write(self, event: Write, now_ms: int, out: list[Effect]) -> None:
        state = self._replicas.get(event.replica)
        if state is None:
            return
        # Put last, so that the order is that of the writes that stay.
        for key in event.entries:
            state.pending.pop(key, None)
        state.pending.update(event.entries)
        if state.sending is None and not state.armed:
            state.armed = True
            out.append(SetTimer((_FLUSH, event.replica), 0))

    def _on_sent(self, event: Sent, now_ms: int, out: list[Effect]) -> None:
        state = self._replicas.get(event.replica)
        if state is not None and state.sending is not None:
            self._gossip(event.replica, state, out)

    def _gossip(self, name: str, state: _Replica, out: list[Effect]) -> None:
        while True:
            if state.sending is None:
                if not state.pending:
                    return
                state.sending = Pieces([state.pending], CHUNK_BYTES_MAX)
                state.pending = {}
            piece = state.sending.next()
            if piece is not None:
                break
            self.stats.unsendable += state.sending.skipped
            state.sending = None
        self.stats.deltas_sent += 1
        out.append(Publish(Outgoing(name, DeltaMessage(self.next_origin(name), piece))))

    def _on_gossip(self, event: Gossiped, now_ms: int, out: list[Effect]) -> None:
        name, message = event.replica, event.message
        origin = message.origin
        if name not in self._replicas:
            self.stats.unknown += 1
            return
        if origin.node == self._node and origin.creation == self._creation:
            self.stats.echoes += 1
            return
        if isinstance(message, CustomMessage):
            out.append(Publish(MergeCustom(name, message.payload, origin)))
            return
        try:
            accepted = decode_delta(message.entries)
        except WireError:
            # It went through many hands: whoever passed it on is not to blame.
            self.stats.malformed += 1
            return
        self.stats.deltas_received += 1
        if accepted.refused:
            self.stats.malformed += 1
        if accepted.delta:
            out.append(Publish(MergeDelta(name, accepted.delta, origin)))

    # Neighbours.

    def _on_peer_up(self, event: PeerUp, now_ms: int, out: list[Effect]) -> None:
        peer = event.node
        if peer == self._node or peer in self._peers:
            return
        self._peers[peer] = None
        self._greet(peer, out)

    def _greet(self, peer: str, out: list[Effect]) -> None:
        if self._node < peer:
            for name in self._replicas:
                self.rounds.want(peer, name, out)
        else:
            delay_ms = SECOND_ASKER_MS + self._rng.jitter(SECOND_ASKER_MS)
            out.append(SetTimer((_SECOND, peer), delay_ms))

    def _on_peer_down(self, event: PeerDown, now_ms: int, out: list[Effect]) -> None:
        peer = event.node
        if peer in self._peers:
            del self._peers[peer]
            out.append(CancelTimer((_SECOND, peer)))
            self._forget_sync(peer)

    def _on_node_up(self, event: NodeUp, now_ms: int, out: list[Effect]) -> None:
        # Another channel than before: nothing that was under way can go on, and what
        # the old one lost is lost, also to a neighbour that stayed one.
        self.rounds.forget_peer(event.node, out)
        if event.node in self._peers:
            self._forget_sync(event.node)
            self._greet(event.node, out)

    def _on_node_down(self, event: NodeDown, now_ms: int, out: list[Effect]) -> None:
        self.rounds.forget_peer(event.node, out)

    def _forget_sync(self, peer: str) -> None:
        for state in self._replicas.values():
            state.synced_ms.pop(peer, None)

    def _on_second(self, peer: str, now_ms: int, out: list[Effect]) -> None:
        if peer not in self._peers:
            return
        for name, state in self._replicas.items():
            if peer not in state.synced_ms and not self.rounds.is_busy(peer, name):
                self.rounds.want(peer, name, out)

    # Rounds.

    def _on_catch_up(self, event: CatchUp, now_ms: int, out: list[Effect]) -> None:
        if event.replica not in self._replicas:
            return
        peers = list(self._peers) if event.peer is None else [event.peer]
        for peer in peers:
            self.rounds.want(peer, event.replica, out)

    def _on_learned(self, event: Learned, now_ms: int, out: list[Effect]) -> None:
        state = self._replicas.get(event.replica)
        if state is None:
            return
        if not state.teachers:
            delay_ms = SPREAD_MS + self._rng.jitter(SPREAD_MS)
            out.append(SetTimer((_SPREAD, event.replica), delay_ms))
        state.teachers[event.peer] = None

    def _spread(self, name: str, state: _Replica, out: list[Effect]) -> None:
        # One that taught us alone knows it all; of several, none needs to.
        known = state.teachers if len(state.teachers) == 1 else {}
        state.teachers = {}
        for peer in self._peers:
            if peer not in known:
                self.rounds.want(peer, name, out)

    def _on_frame(self, event: Received, now_ms: int, out: list[Effect]) -> None:
        self.rounds.receive(event.peer, event.message, now_ms, out)

    def _on_unsent(self, event: Unsent, now_ms: int, out: list[Effect]) -> None:
        self.rounds.unsent(event.peer, event.message, now_ms, out)

    def _note_synced(self, event: Synced, now_ms: int) -> None:
        state = self._replicas.get(event.replica)
        if state is not None and event.peer in self._peers:
            state.synced_ms[event.peer] = now_ms

    # Timers.

    def _on_timer(self, event: TimerFired, now_ms: int, out: list[Effect]) -> None:
        key = event.key
        assert isinstance(key, tuple)
        if self.rounds.fired(key, now_ms, out):
            return
        what, name = key
        if what == _SECOND:
            self._on_second(name, now_ms, out)
            return
        state = self._replicas.get(name)
        if state is None:
            return
        if what == _FLUSH:
            state.armed = False
            self._gossip(name, state, out)
        elif what == _COMPARE:
            self._arm_compare(name, out)
            peer = self._longest_unsynced(state)
            if peer is not None:
                self.rounds.want(peer, name, out)
        elif what == _SPREAD:
            self._spread(name, state, out)
        else:
            out.append(SetTimer((_COLLECT, name), state.collect_every_ms))
            self._collect(name, state, now_ms, out)

    def _longest_unsynced(self, state: _Replica) -> str | None:
        # Random among equals: every link gets its turn, and no two nodes keep step.
        peers = self._rng.sample(list(self._peers), len(self._peers))
        return min(peers, key=lambda p: state.synced_ms.get(p, -1), default=None)

    def _arm_compare(self, name: str, out: list[Effect]) -> None:
        period_ms = self._anti_entropy_ms
        if period_ms > 0:
            quarter_ms = period_ms // 4
            delay_ms = period_ms - quarter_ms + self._rng.jitter(2 * quarter_ms)
            out.append(SetTimer((_COMPARE, name), delay_ms))

    def _collect(
        self, name: str, state: _Replica, now_ms: int, out: list[Effect]
    ) -> None:
        # A tombstone goes only after every neighbour has compared digests with us
        # since it was written; one that never does keeps them all.
        assert state.horizon_ms is not None
        age_ms = state.horizon_ms
        for peer in self._peers:
            synced_ms = state.synced_ms.get(peer, state.started_ms)
            age_ms = max(age_ms, now_ms - synced_ms)
        if age_ms > state.horizon_ms:
            self.stats.collections_put_off += 1
        out.append(Publish(Collect(name, age_ms)))
