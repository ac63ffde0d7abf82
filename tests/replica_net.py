"""Replica machines on a network that loses, doubles, delays and parts; no sockets.

Every effect is performed as a node would; one frame in four goes through its bytes.
Gossip is as bad as the links: a delta is told to each other node once, or not at all.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from barrel_p2p.core.effects import (
    CancelTimer,
    HangUp,
    Publish,
    Send,
    SetTimer,
)
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.ormap import Delta, Entry, OrMap
from barrel_p2p.core.peers import NodeDown, PeerDown, PeerUp
from barrel_p2p.core.rng import Rng, SeededRng
from barrel_p2p.replica.limits import SPREAD_AGE_MS
from barrel_p2p.replica.machine import (
    Collect,
    Gossiped,
    Learned,
    MergeDelta,
    MergeSnapshot,
    Outgoing,
    ReplicaMachine,
    Sent,
    Start,
    Synced,
    Write,
)
from barrel_p2p.replica.messages import (
    SyncChunk,
    SyncDone,
    SyncRequest,
    decode,
    decode_gossip,
    encode,
    encode_gossip,
)

__all__ = ["REPLICA", "Net", "Node"]

REPLICA = "things"
WALL_AT_ZERO_MS = 1_800_000_000_000


@dataclass
class Net:
    """A network with its own time.

    Args:
        seed: Decides everything.
        loss: Frames and deltas lost, in a hundred.
        doubled: The same, told twice.
        latency_ms: Greatest; each frame has its own, so that frames overtake.
    """

    seed: int
    loss: int = 0
    doubled: int = 0
    latency_ms: int = 20
    anti_entropy_ms: int = 30_000
    now_ms: int = 0
    nodes: dict[str, Node] = field(default_factory=dict)
    group_of: dict[str, int] = field(default_factory=dict)
    frames: list[tuple[str, str, object]] = field(default_factory=list)
    written: dict[bytes, Entry] = field(default_factory=dict)  # the best of each key

    def __post_init__(self) -> None:
        self.rng: Rng = SeededRng(self.seed)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def wall_ms(self) -> int:
        return WALL_AT_ZERO_MS + self.now_ms

    def later(self, delay_ms: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_ms + delay_ms, next(self._order), what))

    def run(self, ms: int) -> None:
        """Let ``ms`` milliseconds pass."""
        until_ms = self.now_ms + ms
        while self._heap and self._heap[0][0] <= until_ms:
            self.now_ms, _, what = heapq.heappop(self._heap)
            what()
        self.now_ms = until_ms

    def add(self, name: str, *, connect: bool = True) -> Node:
        """A node, with every other one as its neighbour."""
        node = self.nodes[name] = Node(name, self)
        self.group_of[name] = 0
        node.boot(None)
        if connect:
            for other in self.nodes.values():
                if other is not node and other.up:
                    self.connect(name, other.name)
        return node

    def connect(self, a: str, b: str) -> None:
        self.nodes[a].feed(PeerUp(b))
        self.nodes[b].feed(PeerUp(a))

    def disconnect(self, a: str, b: str) -> None:
        for one, other in ((a, b), (b, a)):
            if self.nodes[one].up:
                self.nodes[one].feed(NodeDown(other, "idle_timeout"))
                self.nodes[one].feed(PeerDown(other, "idle_timeout"))

    def part(self, groups: list[list[str]], *, noticed: bool) -> None:
        """Nothing passes between groups; if ``noticed``, channels go down."""
        self.group_of = {n: i for i, group in enumerate(groups) for n in group}
        if noticed:
            for a, b in itertools.combinations(self.nodes, 2):
                if self.group_of[a] != self.group_of[b]:
                    self.disconnect(a, b)

    def heal(self) -> None:
        """Everything passes again, and whoever is up is everyone's neighbour."""
        self.group_of = dict.fromkeys(self.nodes, 0)
        for a, b in itertools.combinations(self.nodes, 2):
            if self.nodes[a].up and self.nodes[b].up:
                self.connect(a, b)

    def passes(self, a: str, b: str) -> bool:
        return self.group_of[a] == self.group_of[b] and self.rng.below(100) >= self.loss

    def tell(self, a: str, b: str, event: Callable[[], object]) -> None:
        """Tell ``b`` what ``a`` sends it, or not, or twice."""
        copies = 2 if self.rng.below(100) < self.doubled else 1
        life = self.nodes[b].creation
        for _ in range(copies):
            if self.passes(a, b):
                delay_ms = 1 + self.rng.jitter(self.latency_ms)
                self.later(delay_ms, lambda: self._arrive(b, life, event))

    def _arrive(self, name: str, life: int, event: Callable[[], object]) -> None:
        node = self.nodes[name]
        if node.up and node.creation == life:
            node.feed(event())

    def converged(self) -> bool:
        """Whether all who are up hold the same entries."""
        first, *others = [n for n in self.nodes.values() if n.up]
        return all(
            n.entries.digest() == first.entries.digest()
            and n.entries.snapshot() == first.entries.snapshot()
            for n in others
        )


class Node:
    """One machine, its map, and what was ordered of it."""

    def __init__(self, name: str, net: Net) -> None:
        self.name = name
        self.net = net
        self.creation = 0
        self.up = False
        self.synced: list[str] = []
        self.echoes_told = 0
        self.merged: list[object] = []
        self.dropped: list[tuple[str, str]] = []

    def boot(self, kept: dict[bytes, Any] | None) -> None:
        """Begin a life, with entries from before or with none."""
        self.creation += 1
        self.up = True
        self.entries = OrMap(self.name, HLC(self.net))
        if kept:
            self.entries.absorb_clock(kept)
            self.entries.merge(kept)
        seed = self.net.rng.below(1 << 30)
        self.machine = ReplicaMachine(
            node=self.name,
            creation=self.creation,
            rng=SeededRng(seed),
            anti_entropy_ms=self.net.anti_entropy_ms,
        )
        self._timers: dict[Any, int] = {}
        self.feed(Start(REPLICA, self.entries, horizon_ms=3_600_000))

    def crash(self) -> None:
        self.up = False
        for other in self.net.nodes.values():
            if other.up:
                other.feed(NodeDown(self.name, "unreachable"))
                other.feed(PeerDown(self.name, "unreachable"))

    def restart(self, *, keep: bool) -> None:
        kept = self.entries.snapshot() if keep else None
        self.boot(kept)
        for other in self.net.nodes.values():
            if other.up and other is not self:
                self.net.connect(self.name, other.name)

    def add(self, key: object, value: object) -> None:
        self._write(self.entries.add(key, value))

    def remove(self, key: object) -> None:
        self._write(self.entries.remove(key))

    def _write(self, delta: Delta) -> None:
        for key, entry in delta.items():
            best = self.net.written.get(key)
            if best is None or entry.beats(best):
                self.net.written[key] = entry
        self.feed(Write(REPLICA, delta))

    def feed(self, event: object) -> None:
        if isinstance(event, NodeDown):
            self.dropped.append((event.node, event.reason))
        for effect in self.machine.handle(event, now_ms=self.net.now_ms):
            match effect:
                case Send(to, message):
                    self._send(to, message)
                case SetTimer(key, delay_ms):
                    self._set(key, delay_ms)
                case CancelTimer(key):
                    self._timers.pop(key, None)
                case Publish(order):
                    self._perform(order)
                case HangUp(node, _):
                    self.net.disconnect(self.name, node)
                case _:
                    raise AssertionError(effect)

    def _send(self, to: str, message: object) -> None:
        assert isinstance(message, SyncRequest | SyncChunk | SyncDone)
        self.net.frames.append((self.name, to, message))
        if to in self.net.nodes and self.net.nodes[to].up:
            copy = message
            if self.net.rng.below(4) == 0:
                copy = decode(*encode(message))
                assert copy == message
            self.net.tell(self.name, to, lambda: Received(self.name, copy))

    def _soon(self, event: object) -> None:
        life = self.creation
        self.net.later(0, lambda: self.feed(event) if life == self.creation else None)

    def _set(self, key: Any, delay_ms: int) -> None:
        due_ms, life = self.net.now_ms + delay_ms, self.creation
        self._timers[key] = due_ms

        def fire() -> None:
            if life == self.creation and self.up and self._timers.get(key) == due_ms:
                del self._timers[key]
                self.feed(TimerFired(key))

        self.net.later(delay_ms, fire)

    def _perform(self, order: object) -> None:
        match order:
            case Outgoing(replica, message):
                payload = encode_gossip(message)
                for name, other in self.net.nodes.items():
                    if other.up:
                        self.net.tell(
                            self.name,
                            name,
                            lambda: Gossiped(replica, decode_gossip(payload)),
                        )
                self._soon(Sent(replica))
            case MergeDelta(_, entries, origin):
                if origin.node == self.name and origin.creation == self.creation:
                    self.echoes_told += 1
                self.merged.append(order)
                self.entries.absorb_clock(entries)
                self.entries.merge(entries)
            case MergeSnapshot(_, entries, peer):
                self.merged.append(order)
                self.entries.absorb_clock(entries)
                changes = self.entries.merge(entries)
                young_ms = self.net.wall_ms() - SPREAD_AGE_MS
                if any(change.after.wall_ms < young_ms for change in changes):
                    self._soon(Learned(REPLICA, peer))
            case Synced(_, peer):
                self.synced.append(peer)
            case Collect(_, age_ms):
                self.entries.gc_tombstones(self.net.wall_ms() - age_ms)
            case _:
                raise AssertionError(order)
