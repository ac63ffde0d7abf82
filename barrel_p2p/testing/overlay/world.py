"""A whole simulated cluster: its nodes, its network, and what befalls them.

Everything in it follows from the seed and the calls made on it. Nothing reads a clock,
waits, or depends on the order of a set or on the addresses of objects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.overlay.chance import SimRng
from barrel_p2p.testing.overlay.delivery import receiver
from barrel_p2p.testing.overlay.faults import Detection, Faults
from barrel_p2p.testing.overlay.garbage import uncollected
from barrel_p2p.testing.overlay.links import Links
from barrel_p2p.testing.overlay.nodes import SimNode
from barrel_p2p.testing.overlay.rooms import ROOMS_MAX, End, Room
from barrel_p2p.testing.overlay.schedule import Schedule
from barrel_p2p.testing.overlay.trace import NODES_MAX, Trace

__all__ = ["World"]

_WALL_MS: Final = 1_800_000_000_000
"""What wall clocks show when a run begins."""

_ORIGIN_MS: Final = 1 << 28
"""Monotonic clocks of different nodes differ by up to this: days."""


@final
class World:
    """A cluster under simulation.

    Args:
        nodes: How many, up to ``NODES_MAX``; none is started yet.
        seed: What chance is made of; equal seeds and calls give equal runs.
        build: Makes the rooms of a node that starts, in a new life or its first.
        latency_ms: Least and greatest one-way latency of a pair.
        detection: How soon channels notice that their other end is gone.
        is_traced: Keep a hash of every event; costs about a tenth of the speed.
        encodes: Let every message pass through its room's encoding.

    Attributes:
        nodes: All of them, by index.
        received: Message class to how many arrived.
        trace: The hash of all events, or None.

    Raises:
        InvalidValue: A number is out of its range.
    """

    def __init__(
        self,
        nodes: int,
        *,
        seed: int,
        build: Callable[[SimNode], tuple[Room, ...]],
        latency_ms: tuple[int, int] = (1, 20),
        detection: Detection | None = None,
        is_traced: bool = False,
        encodes: bool = False,
    ) -> None:
        if not 1 <= nodes <= NODES_MAX:
            raise InvalidValue(f"{nodes} nodes: a simulation has 1 to {NODES_MAX}")
        if not 1 <= latency_ms[0] <= latency_ms[1]:
            raise InvalidValue(f"latency_ms={latency_ms}: least and greatest, from 1")
        self.seed = seed
        self.encodes = encodes
        self.rng = SimRng(seed ^ 0x776F726C64)
        self.schedule = Schedule()
        self.trace = Trace() if is_traced else None
        self.received: defaultdict[type, int] = defaultdict(int)
        self.links = Links(
            self.schedule,
            seed=seed,
            latency_ms=latency_ms,
            detection=detection or Detection(),
        )
        self.deliver = tuple(receiver(self, index) for index in range(ROOMS_MAX))
        self._build = build
        self.nodes = [
            SimNode(self, index, f"n{index:05}@sim", self.rng.below(_ORIGIN_MS))
            for index in range(nodes)
        ]
        self._named = {node.name: node for node in self.nodes}

    def named(self, name: str) -> SimNode | None:
        """The node of that name, started or not."""
        return self._named.get(name)

    def running(self) -> list[SimNode]:
        """The nodes that are alive, by index."""
        return [node for node in self.nodes if node.is_running]

    def wall_ms(self) -> int:
        """What a right wall clock shows."""
        return _WALL_MS + self.schedule.now_ms

    # Time.

    def run_for(self, ms: int) -> int:
        """Let ``ms`` pass; returns how many events that were."""
        with uncollected():
            return self.schedule.run_until(self.schedule.now_ms + ms)

    def later(self, ms: int, call: Callable[[], object]) -> None:
        """Make ``call()`` in ``ms``."""
        self.schedule.at(self.schedule.now_ms + ms, _call, call, None)

    # Nodes.

    def start(self, index: int) -> SimNode:
        """Start a node that is not running, for the first time or again.

        Raises:
            InvalidValue: It is running.
        """
        node = self.nodes[index]
        if node.is_running:
            raise InvalidValue(f"{node.name} is running already")
        node.life += 1
        node.is_running = True
        node.is_silent = False
        node.rooms = self._build(node)
        for room in node.rooms:
            if room.first is not None:
                room.feed(room.first)
        return node

    def crash(self, indexes: Iterable[int], *, is_silent: bool = False) -> None:
        """End nodes without a word.

        Args:
            indexes: Which; those that do not run are left alone.
            is_silent: Their hosts go with them, so that nothing refuses a packet.
        """
        for index in indexes:
            node = self.nodes[index]
            if node.is_running:
                node.is_running = False
                node.is_silent = is_silent
                node.forget()
                self.links.crashed(node)

    def pause(self, index: int) -> None:
        """Let a node stand still; what arrives waits for it."""
        node = self.nodes[index]
        if node.is_running and not node.is_paused:
            node.is_paused = True
            node.pauses += 1
            self.links.paused(node)

    def resume(self, index: int) -> None:
        """End ``pause``."""
        node = self.nodes[index]
        if node.is_paused:
            node.resume()

    def step_clock(self, index: int, ms: int) -> None:
        """Set a node's wall clock forward, or back; its monotonic one runs on."""
        self.nodes[index].wall_offset_ms += ms

    # The network.

    def split(self, sides: Sequence[Iterable[int]]) -> None:
        """Cut every path between nodes of different ``sides``.

        Args:
            sides: Indexes of the nodes; who is in none keeps the side it has.
        """
        for side, indexes in enumerate(sides):
            for index in indexes:
                self.nodes[index].side = side
        self._look_at_all()

    def cut(self, a: int, b: int, *, both_ways: bool = True) -> None:
        """Let nothing pass from ``a`` to ``b``, nor back."""
        self.links.cut(self.nodes[a], self.nodes[b])
        if both_ways:
            self.links.cut(self.nodes[b], self.nodes[a])

    def mend(self, a: int, b: int) -> None:
        """Undo ``cut`` of the two, in both directions."""
        self.links.mend(self.nodes[a], self.nodes[b])
        self.links.mend(self.nodes[b], self.nodes[a])

    def heal(self) -> None:
        """Undo every split and every cut."""
        for node in self.nodes:
            node.side = 0
        self.links.mend_all()
        self._look_at_all()

    def swizzle(self, indexes: Sequence[int], *, over_ms: int) -> None:
        """Cut nodes off one by one in random order, and mend them in another.

        Args:
            indexes: Which nodes; each loses its paths to all others of them.
            over_ms: How long the cutting takes, and the mending after it.
        """
        for order, first_ms, act in (
            (self.rng.sample(indexes, len(indexes)), 0, self._cut_off),
            (self.rng.sample(indexes, len(indexes)), over_ms, self._mend_off),
        ):
            for at, index in enumerate(order):
                delay_ms = first_ms + at * over_ms // len(indexes)
                self.later(delay_ms, _Bound(act, index, indexes))

    def set_faults(self, faults: Faults) -> None:
        """Let this happen to messages from now on."""
        ends: list[End] = []
        for node in self.nodes:
            ends += node.ends.values()
        self.links.set_faults(faults, ends)

    def _cut_off(self, index: int, others: Sequence[int]) -> None:
        for other in others:
            if other != index:
                self.cut(index, other)

    def _mend_off(self, index: int, others: Sequence[int]) -> None:
        for other in others:
            if other != index:
                self.mend(index, other)

    def _look_at_all(self) -> None:
        for node in self.nodes:
            self.links.look_at(node)


@final
class _Bound:
    """A call with its arguments, for ``later``."""

    def __init__(
        self,
        call: Callable[[int, Sequence[int]], None],
        index: int,
        others: Sequence[int],
    ) -> None:
        self._call, self._index, self._others = call, index, others

    def __call__(self) -> None:
        self._call(self._index, self._others)


def _call(call: object, _: object) -> None:
    call()  # type: ignore[operator]
