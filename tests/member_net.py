"""A network of member machines in one heap: delays, losses, crashes, stops, no sockets.

What a carrier and a membership would do is done here with fixed times: a killed process
is noticed after ``NOTICE_MS`` at most, a silent one after ``IDLE_MS``, and neighbours
are those who are told to be. Nothing depends on anything but the seed.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from barrel_p2p.core.effects import CancelTimer, Dial, Effect, Publish, Send, SetTimer
from barrel_p2p.core.inputs import DialFailed, Dialled, Received, TimerFired
from barrel_p2p.core.peers import NodeDown, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.services.member_inputs import (
    ChannelUp,
    ClockAhead,
    GoAway,
    LeaseSettings,
    Start,
)
from barrel_p2p.services.member_machine import MemberMachine
from barrel_p2p.services.member_messages import decode, encode

__all__ = ["IDLE_MS", "NOTICE_MS", "MemberNet", "Node", "names"]

NOTICE_MS = 1_670
IDLE_MS = 5_000
DIAL_MS = 10_000


def names(count: int) -> list[str]:
    """``n00@h``, ``n01@h``, and so on."""
    return [f"n{i:02d}@h" for i in range(count)]


@dataclass
class Node:
    """One node: its machine, its clock, and all that it published."""

    name: str
    creation: int
    net: MemberNet
    machine: MemberMachine
    running: bool = True
    stopped_until: int = 0
    wall_offset_ms: int = 0
    events: list[tuple[int, Any]] = field(default_factory=list)
    timers: dict[Any, int] = field(default_factory=dict)  # key -> token

    def wall_ms(self) -> int:
        return 1_800_000_000_000 + self.net.now + self.wall_offset_ms

    def told(self, kind: type[Any], node: str) -> list[Any]:
        return [e for _, e in self.events if type(e) is kind and e.node == node]

    def when(self, kind: type[Any], node: str) -> list[int]:
        return [at for at, e in self.events if type(e) is kind and e.node == node]


class MemberNet:
    """Nodes that can all reach each other, until they cannot.

    Args:
        count: How many.
        seed: Of everything.
        degree: Neighbours on a ring, each way; the others have no channel.
        loss: Part of the messages that vanish, per mille.
        twice: Part of the messages that come twice, per mille.
        latency: Least and most milliseconds of a message; two can overtake each other.
        settings: The periods.
        through_wire: Encode and decode every message.
    """

    def __init__(
        self,
        count: int,
        seed: int = 1,
        *,
        degree: int = 2,
        loss: int = 0,
        twice: int = 0,
        latency: tuple[int, int] = (1, 5),
        settings: LeaseSettings | None = None,
        through_wire: bool = True,
    ) -> None:
        self.now = 0
        self.rng = SeededRng(seed)
        self.loss = loss
        self.twice = twice
        self.latency = latency
        self.settings = settings or LeaseSettings()
        self.through_wire = through_wire
        self.sent: dict[str, int] = {}
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._tokens = itertools.count(1)
        self.cut: Callable[[str, str], bool] = lambda a, b: False
        self.channels: dict[tuple[str, str], int] = {}  # ordered pair -> token
        self.nodes: dict[str, Node] = {}
        for name in names(count):
            self.start(name, 1)
        listed = names(count)
        for i, name in enumerate(listed):
            for step in range(1, degree + 1):
                other = listed[(i + step) % count]
                if other != name:
                    self.link(name, other)

    # The scenario.

    def start(self, name: str, creation: int) -> Node:
        node = Node(name, creation, self, None)  # type: ignore[arg-type]
        node.machine = MemberMachine(
            name,
            creation,
            wall=node,
            rng=SeededRng(self.rng.below(1 << 32)),
            settings=self.settings,
        )
        self.nodes[name] = node
        self.feed(node, Start())
        return node

    def link(self, a: str, b: str) -> None:
        """A channel, and neighbours over it, at once at both ends."""
        if (a, b) in self.channels:
            return
        self._open(a, b)
        for one, other in ((a, b), (b, a)):
            self.feed(self.nodes[one], PeerUp(other))

    def unlink(self, a: str, b: str, reason: str = "disconnect") -> None:
        """The end of a channel, as both ends are told at once."""
        for one, other in ((a, b), (b, a)):
            self._down(one, other, reason)

    def kill(self, name: str) -> None:
        """SIGKILL: each neighbour notices within ``NOTICE_MS``."""
        self.nodes[name].running = False
        for one, other in list(self.channels):
            if other == name:
                self.after(self.rng.jitter(NOTICE_MS), self._lose(one, other))
            if one == name:
                del self.channels[one, other]

    def silence(self, name: str) -> None:
        """The host vanishes: neighbours notice after the idle timeout."""
        self.nodes[name].running = False
        for one, other in list(self.channels):
            if other == name:
                self.after(IDLE_MS, self._lose(one, other, "idle_timeout"))
            if one == name:
                del self.channels[one, other]

    def partition(self, side: Iterable[str]) -> None:
        """Two sides that hear nothing of each other; idle channels end."""
        inside = set(side)
        self.cut = lambda a, b: (a in inside) != (b in inside)
        for one, other in list(self.channels):
            if self.cut(one, other):
                self.after(IDLE_MS, self._lose(one, other, "idle_timeout"))

    def heal(self, pairs: Iterable[tuple[str, str]]) -> None:
        """The network is whole again, and some find each other."""
        self.cut = lambda a, b: False
        for a, b in pairs:
            self.link(a, b)

    def stop(self, name: str, for_ms: int) -> None:
        """SIGSTOP: nothing happens there, and all of it at once afterwards."""
        self.nodes[name].stopped_until = self.now + for_ms

    def leave(self, name: str) -> None:
        node = self.nodes[name]
        self.feed(node, GoAway())
        for one, other in list(self.channels):
            if name in (one, other):
                self.after(5, self._lose(one, other, "disconnect"))

    # Running.

    def after(self, delay_ms: int, work: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay_ms, next(self._order), work))

    def run(self, for_ms: int) -> None:
        until = self.now + for_ms
        while self._heap and self._heap[0][0] <= until:
            self.now, _, work = heapq.heappop(self._heap)
            work()
        self.now = until

    def feed(self, node: Node, event: object) -> None:
        if not node.running or self.nodes[node.name] is not node:
            return
        if node.stopped_until > self.now:
            wait = node.stopped_until - self.now
            self.after(wait, lambda: self.feed(node, event))
            return
        for effect in node.machine.handle(event, now_ms=self.now):
            self._perform(node, effect)

    def agreed(self, among: Iterable[str]) -> set[tuple[str, ...]]:
        """The different opinions on who is a member."""
        return {tuple(self.nodes[name].machine.members()) for name in among}

    def _perform(self, node: Node, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._send(node, to, message)
            case SetTimer(key, delay_ms):
                token = node.timers[key] = next(self._tokens)
                self.after(delay_ms, lambda: self._fire(node, key, token))
            case CancelTimer(key):
                node.timers.pop(key, None)
            case Publish(event):
                node.events.append((self.now, event))
            case Dial(to, _, tag):
                self._dial(node, to, tag)
            case _:
                raise AssertionError(effect)

    def _fire(self, node: Node, key: object, token: int) -> None:
        if node.timers.get(key) != token:
            return
        if node.stopped_until > self.now:
            wait = node.stopped_until - self.now
            self.after(wait, lambda: self._fire(node, key, token))
            return
        del node.timers[key]
        self.feed(node, TimerFired(key))

    def _send(self, node: Node, to: str, message: object) -> None:
        if (node.name, to) not in self.channels:
            return
        kind, body = encode(message)  # type: ignore[arg-type]
        self.sent[type(message).__name__] = self.sent.get(type(message).__name__, 0) + 1
        copies = 1 + (self.rng.below(1_000) < self.twice)
        for _ in range(copies):
            if self.cut(node.name, to) or self.rng.below(1_000) < self.loss:
                continue
            low, high = self.latency
            what = decode(kind, body) if self.through_wire else message
            self.after(
                low + self.rng.jitter(high - low), self._arrive(node.name, to, what)
            )

    def _arrive(self, sender: str, to: str, message: object) -> Callable[[], None]:
        def arrive() -> None:
            if (to, sender) in self.channels:
                self.feed(self.nodes[to], Received(sender, message))

        return arrive

    def _dial(self, node: Node, to: str, tag: int) -> None:
        target = self.nodes.get(to)
        if target is None or self.cut(node.name, to):
            self.after(
                DIAL_MS, lambda: self.feed(node, DialFailed(to, tag, "nodedown"))
            )
        elif not target.running:
            self.after(3, lambda: self.feed(node, DialFailed(to, tag, "nodedown")))
        else:
            wait = max(target.stopped_until - self.now, 0) + 5

            def reached() -> None:
                if target.running and node.running and not self.cut(node.name, to):
                    self._open(node.name, to)
                    self.feed(node, Dialled(to, tag))

            self.after(wait, reached)

    def _open(self, a: str, b: str) -> None:
        for one, other in ((a, b), (b, a)):
            if (one, other) not in self.channels:
                self.channels[one, other] = next(self._tokens)
                self.feed(self.nodes[one], ChannelUp(other, self.nodes[other].creation))

    def _lose(
        self, one: str, other: str, reason: str = "unreachable"
    ) -> Callable[[], None]:
        token = self.channels[one, other]

        def lose() -> None:
            if self.channels.get((one, other)) == token:
                self._down(one, other, reason)

        return lose

    def _down(self, one: str, other: str, reason: str) -> None:
        if self.channels.pop((one, other), None) is None:
            return
        node = self.nodes[one]
        self.feed(node, PeerDown(other, reason))
        self.feed(node, NodeDown(other, reason))


def clock_warnings(node: Node) -> list[ClockAhead]:
    """Whom ``node`` has named for the clock."""
    return [e for _, e in node.events if isinstance(e, ClockAhead)]
