"""A few machines of the views and an exact network in memory, one event at a time.

Frames of one sender to one receiver arrive in order unless the channel ends. Messages
travel as bytes. Every claim that a listener could make is checked as it happens.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from barrel_p2p.core.effects import (
    CancelTimer,
    Dial,
    Effect,
    Persist,
    Publish,
    Send,
    SetTimer,
)
from barrel_p2p.core.inputs import (
    DialFailed,
    Dialled,
    Persisted,
    Received,
    TimerFired,
)
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.membership import messages
from barrel_p2p.membership.commands import Join, Leave, Start
from barrel_p2p.membership.machine import HyParView, Settings

__all__ = ["SimNode", "SimViews", "address"]

DIAL_MS = 3
REFUSED_MS = 20


def address(name: str) -> Address:
    """Where a simulated node says it is."""
    return Address(name, "127.0.0.1", 1_000 + sum(name.encode()) % 60_000)


@dataclass
class SimNode:
    """One machine, and everything it published."""

    name: str
    machine: HyParView
    events: list[object] = field(default_factory=list)
    peers: dict[str, None] = field(default_factory=dict)
    timers: dict[Hashable, int] = field(default_factory=dict)
    kept: tuple[Address, ...] = ()


class SimViews:
    """The nodes, the channels between them, and what is under way.

    Args:
        settings: Of every node.
        seed: Of chance, in the machines and in the network.
    """

    def __init__(self, settings: Settings | None = None, *, seed: int = 1) -> None:
        self.settings = settings or Settings()
        self.now_ms = 0
        self.nodes: dict[str, SimNode] = {}
        self.channels: dict[frozenset[str], int] = {}
        self.cut: Callable[[str, str], bool] = lambda a, b: False
        self.lie: Callable[[str, Any], messages.Message] = lambda sender, message: (
            message
        )
        self.frames = 0
        self.trace: list[str] | None = None
        self._frozen = False
        self._seed = seed
        self._rng = SeededRng(seed)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._arrivals: dict[tuple[str, str], int] = {}

    def add(
        self,
        name: str,
        *,
        contacts: tuple[str, ...] = (),
        remembered: tuple[Address, ...] = (),
        **changes: object,
    ) -> SimNode:
        """A node that starts now."""
        values = {slot: getattr(self.settings, slot) for slot in Settings.__slots__}
        values["contact_nodes"] = tuple(address(contact) for contact in contacts)
        settings = Settings(**(values | changes))
        seed = hash_of(f"{self._seed} {name}")
        node = SimNode(name, HyParView(address(name), settings, SeededRng(seed)))
        self.nodes[name] = node
        self.feed(name, Start(remembered))
        return node

    def join(self, name: str, contact: str) -> None:
        """Have ``name`` join through ``contact``."""
        self.feed(name, Join(address(contact)))

    def leave(self, name: str) -> None:
        """Have ``name`` leave."""
        self.feed(name, Leave())

    def crash(self, name: str, reason: str = "idle_timeout") -> None:
        """End ``name`` without a word; its neighbours learn of it in a while."""
        del self.nodes[name]
        for pair in [pair for pair in self.channels if name in pair]:
            self.hang_up(pair, reason)

    def hang_up(self, pair: frozenset[str], reason: str) -> None:
        """End a channel: all under way is lost, and both sides learn of it, in time."""
        if self.channels.pop(pair, None) is None:
            return
        for name in sorted(pair):
            other = next(n for n in pair if n != name)
            down = NodeDown(other, reason)
            self._later(self._delay(), lambda n=name, d=down: self.feed(n, d))  # type: ignore[misc]
        # What is dialled from here on comes up after both know.
        for name in pair:
            for other in pair:
                self._arrivals[name, other] = self.now_ms + 10

    def run(self, ms: int) -> None:
        """Let time pass."""
        end = self.now_ms + ms
        while self._events and self._events[0][0] <= end:
            at, _, action = heapq.heappop(self._events)
            self.now_ms = at
            action()
        self.now_ms = end

    def feed(self, name: str, event: object) -> None:
        """Tell a node something, and do what it orders."""
        node = self.nodes.get(name)
        if node is None:
            return
        if self.trace is not None:
            self.trace.append(f"{self.now_ms} {name} {event}")
        for effect in node.machine.handle(event, now_ms=self.now_ms):
            self._perform(node, effect)
        self._check(node)

    def quiet(self, ms: int = 200) -> None:
        """Let what is under way arrive, while no timer fires any more."""
        self._frozen = True
        self.run(ms)

    def one_way(self) -> list[tuple[str, str]]:
        """Links that only one side holds."""
        return [
            (name, peer)
            for name, node in self.nodes.items()
            for peer in node.machine.active_view()
            if peer not in self.nodes
            or name not in self.nodes[peer].machine.active_view()
        ]

    def components(self) -> list[int]:
        """How many nodes hang together, the largest part first."""
        left = dict.fromkeys(self.nodes)
        sizes = []
        while left:
            found = [next(iter(left))]
            del left[found[0]]
            for name in found:
                for peer in self.nodes[name].machine.active_view():
                    if peer in left:
                        del left[peer]
                        found.append(peer)
            sizes.append(len(found))
        return sorted(sizes, reverse=True)

    def full(self) -> int:
        """How many nodes have as many peers as they may."""
        return sum(1 for node in self.nodes.values() if node.machine.is_full)

    def _perform(self, node: SimNode, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._send(node.name, to, message)
            case SetTimer(key, delay_ms):
                self._set_timer(node, key, delay_ms)
            case CancelTimer(key):
                node.timers.pop(key, None)
            case Dial(to, where, tag):
                assert where is None or where[1] > 0
                self._later(DIAL_MS, lambda: self._dial(node.name, to, tag))
            case Publish(event):
                node.events.append(event)
                self._hear(node, event)
            case Persist(key, value):
                node.kept = value  # type: ignore[assignment]
                self._later(1, lambda: self.feed(node.name, Persisted(key)))
            case _:
                raise AssertionError(effect)

    def _hear(self, node: SimNode, event: object) -> None:
        if isinstance(event, PeerUp):
            assert event.node not in node.peers, f"{node.name} told twice of {event}"
            node.peers[event.node] = None
        elif isinstance(event, PeerDown):
            assert event.node in node.peers, f"{node.name} was not told before {event}"
            del node.peers[event.node]

    def _check(self, node: SimNode) -> None:
        active, passive = node.machine.active_view(), node.machine.passive_view()
        assert sorted(active) == sorted(node.peers)
        assert len(active) <= self.settings.active_size
        assert len(passive) <= self.settings.passive_size
        assert not set(active) & set(passive)
        assert node.name not in active
        assert node.name not in passive

    def _send(self, sender: str, to: str, message: object) -> None:
        pair = frozenset((sender, to))
        life = self.channels.get(pair)
        if life is None:
            return
        self.frames += 1
        kind, body = messages.encode(self.lie(sender, message))
        at = max(self.now_ms + self._delay(), self._arrivals.get((sender, to), 0))
        self._arrivals[sender, to] = at

        def arrive() -> None:
            if self.channels.get(pair) == life:
                decoded = messages.decode(kind, body, peer=sender)
                self.feed(to, Received(sender, decoded))

        self._later(at - self.now_ms, arrive)

    def _dial(self, name: str, to: str, tag: int) -> None:
        if name not in self.nodes:
            return
        pair = frozenset((name, to))
        if pair in self.channels:
            self.feed(name, Dialled(to, tag))
        elif to not in self.nodes or self.cut(name, to):
            failed = DialFailed(to, tag, "nodedown")
            self._later(REFUSED_MS, lambda: self.feed(name, failed))
        elif self._arrivals.get((name, to), 0) > self.now_ms:
            self._later(5, lambda: self._dial(name, to, tag))
        else:
            self.channels[pair] = self._count
            self.feed(to, NodeUp(name))
            self.feed(name, NodeUp(to))
            self.feed(name, Dialled(to, tag))

    def _set_timer(self, node: SimNode, key: Hashable, delay_ms: int) -> None:
        assert delay_ms >= 0
        due = self.now_ms + delay_ms
        node.timers[key] = due

        def fire() -> None:
            current = self.nodes.get(node.name) is node and not self._frozen
            if current and node.timers.get(key) == due:
                del node.timers[key]
                self.feed(node.name, TimerFired(key))

        self._later(delay_ms, fire)

    def _delay(self) -> int:
        return 1 + self._rng.below(4)

    def _later(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, action))


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return int.from_bytes(text.encode())
