"""A network of routers in one heap: links, delays, losses, silent nodes, no sockets.

Each node's registry is a dict that the test fills, so that a test says who knows what.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from barrel_p2p.core.effects import CancelTimer, Effect, Publish, Send, SetTimer
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.peers import NodeDown, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.core.terms import Pid
from barrel_p2p.services.router_inputs import Answer, Find
from barrel_p2p.services.router_machine import RouterMachine
from barrel_p2p.services.router_messages import (
    NodeTarget,
    ServiceTarget,
    Target,
    decode,
    encode,
)
from barrel_p2p.services.service_events import ServiceEntry
from barrel_p2p.wire.terms import key_bytes

__all__ = ["RouteNet", "Routing", "entry", "line", "names", "service"]


def names(count: int) -> list[str]:
    """``n00@h``, ``n01@h``, and so on."""
    return [f"n{i:02d}@h" for i in range(count)]


def line(count: int) -> list[tuple[str, str]]:
    """Each node is linked to the next."""
    return list(itertools.pairwise(names(count)))


def service(name: object) -> ServiceTarget:
    """What a search for ``name`` looks for."""
    return ServiceTarget(key_bytes(name), name)


def entry(name: object, node: str, number: int = 1) -> ServiceEntry:
    """An instance."""
    return ServiceEntry(name, Pid(node, number, 7), node, {})


@dataclass
class Routing:
    """One node: its router, its registry, and what was answered."""

    name: str
    machine: RouterMachine
    services: dict[object, ServiceEntry] = field(default_factory=dict)
    dead: dict[str, None] = field(default_factory=dict)
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    answers: list[tuple[int, Answer]] = field(default_factory=list)
    timers: dict[Any, int] = field(default_factory=dict)
    silent: bool = False
    most: int = 0  # requests of others in flight


class RouteNet:
    """Routers and the links between them.

    Args:
        links: Who is whose peer, both ways.
        seed: Of everything.
        loss: Part of the messages that vanish, per mille.
        latency: Least and most milliseconds of a message.
        through_wire: Encode and decode every message.
        options: For each machine.
    """

    def __init__(
        self,
        links: Iterable[tuple[str, str]],
        seed: int = 1,
        *,
        loss: int = 0,
        latency: tuple[int, int] = (1, 5),
        through_wire: bool = True,
        **options: Any,
    ) -> None:
        self.now = 0
        self.sent = 0
        self.trace: list[tuple[int, str, str, object]] = []
        self.nodes: dict[str, Routing] = {}
        self.tap: Callable[[str, str, Any], bool] = lambda a, b, message: True
        self._rng = SeededRng(seed)
        self._loss = loss
        self._latency = latency
        self._through_wire = through_wire
        self._options = options
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._tokens = itertools.count(1)
        self._refs = itertools.count(1)
        for a, b in links:
            for node, peer in ((a, b), (b, a)):
                self.feed(self.node(node), PeerUp(peer))

    def node(self, name: str) -> Routing:
        """The node of that name, made if it is new."""
        found = self.nodes.get(name)
        if found is None:
            made = Routing(name, None)  # type: ignore[arg-type]
            made.machine = RouterMachine(
                name,
                lookup=lambda what: made.services.get(what),
                is_dead=lambda node: node in made.dead,
                address_of=lambda node: made.places.get(node),
                rng=SeededRng(self._rng.below(1 << 64)),
                **self._options,
            )
            found = self.nodes[name] = made
        return found

    def find(
        self, at: str, what: Target | str, *, timeout_ms: int = 5_000
    ) -> Answer | None:
        """Search from ``at`` until there is an answer; None if there never is."""
        node = self.nodes[at]
        ref = self.begin(at, what, timeout_ms=timeout_ms)
        while self._heap and not any(a.ref == ref for _, a in node.answers):
            self.step()
        return next((a for _, a in node.answers if a.ref == ref), None)

    def begin(self, at: str, what: Target | str, *, timeout_ms: int = 5_000) -> int:
        """Begin a search; its ``ref``."""
        target = service(what) if isinstance(what, str) else what
        assert isinstance(target, ServiceTarget | NodeTarget)
        ref = next(self._refs)
        self.feed(self.nodes[at], Find(ref, target, timeout_ms))
        return ref

    def run(self, until_ms: int) -> None:
        """Let everything happen that is due by then."""
        while self._heap and self._heap[0][0] <= until_ms:
            self.step()
        self.now = until_ms

    def step(self) -> None:
        """Let the next thing happen."""
        self.now, _, what = heapq.heappop(self._heap)
        what()

    def cut(self, a: str, b: str) -> None:
        """End the channel between two nodes."""
        for node, peer in ((a, b), (b, a)):
            self.feed(self.nodes[node], PeerDown(peer, "unreachable"))
            self.feed(self.nodes[node], NodeDown(peer, "unreachable"))

    def feed(self, node: Routing, event: object) -> None:
        """Tell one machine, and do what it orders."""
        for effect in node.machine.handle(event, now_ms=self.now):
            self._perform(node, effect)
        node.most = max(node.most, node.machine.in_flight)

    def _perform(self, node: Routing, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._send(node, to, message)
            case SetTimer(key, delay_ms):
                token = node.timers[key] = next(self._tokens)
                self._at(self.now + delay_ms, lambda: self._fire(node, key, token))
            case CancelTimer(key):
                node.timers.pop(key, None)
            case Publish(Answer() as answer):
                node.answers.append((self.now, answer))
            case _:
                raise AssertionError(effect)

    def _send(self, node: Routing, to: str, message: Any) -> None:
        self.sent += 1
        self.trace.append((self.now, node.name, to, message))
        if self._loss and self._rng.below(1_000) < self._loss:
            return
        if not self.tap(node.name, to, message):
            return
        if self._through_wire:
            message = decode(*encode(message))
        low, high = self._latency
        due = self.now + low + self._rng.below(high - low + 1)
        self._at(due, lambda: self._arrive(node.name, to, message))

    def _arrive(self, sender: str, to: str, message: object) -> None:
        node = self.nodes.get(to)
        if node is not None and not node.silent:
            self.feed(node, Received(sender, message))

    def _fire(self, node: Routing, key: Any, token: int) -> None:
        if node.timers.get(key) == token:
            del node.timers[key]
            self.feed(node, TimerFired(key))

    def _at(self, due: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (due, next(self._order), what))
