"""The path of an event through the overlay simulator, with an idle machine.

Run with ``pytest bench/micro --benchmark-group-by=group``. With real machines:
``python -m bench.simulator``.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import cast

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from barrel_p2p.core.effects import Effect, Send, SetTimer
from barrel_p2p.testing.overlay.nodes import SimNode
from barrel_p2p.testing.overlay.rooms import End, Receiver, Room
from barrel_p2p.testing.overlay.schedule import Schedule
from barrel_p2p.testing.overlay.stack import MEMBERSHIP

COUNT = 10_000


class Echo:
    """Answers every message, and sets its timer again."""

    def __init__(self, peer: str) -> None:
        self._effects: list[Effect] = [Send(peer, 1), SetTimer("tick", 5)]

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        return self._effects


@pytest.mark.benchmark(group="10,000 events")
def test_messages_and_timers(benchmark: BenchmarkFixture) -> None:
    def run() -> int:
        schedule = Schedule()
        world = SimpleNamespace(schedule=schedule, trace=None, links=None)
        nodes = [
            SimpleNamespace(
                world=world, name=name, origin_ms=0, ends={}, is_paused=False
            )
            for name in ("a", "b")
        ]
        receiver = Receiver(0, defaultdict(int), lambda end, call, message: None)
        for node, peer in zip(nodes, ("b", "a"), strict=True):
            room = Room(cast("SimNode", node), Echo(peer), MEMBERSHIP, print, receiver)
            node.rooms = (room,)
        first, second = (cast("SimNode", node) for node in nodes)
        ours, theirs = End(first, second, 1), End(second, first, 1)
        ours.twin, theirs.twin = theirs, ours
        first.ends["b"], second.ends["a"] = ours, theirs
        for _ in range(10):
            first.rooms[0].feed("begin")
        while schedule.events < COUNT:
            schedule.run_until(schedule.now_ms + 10)
        return schedule.events

    assert benchmark(run) >= COUNT
