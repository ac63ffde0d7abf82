"""Machines that only keep what they were told, to look at the network under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from barrel_p2p.core.effects import Effect
from barrel_p2p.testing.overlay.faults import Detection
from barrel_p2p.testing.overlay.nodes import Codec, SimNode
from barrel_p2p.testing.overlay.rooms import Room
from barrel_p2p.testing.overlay.world import World

__all__ = ["Do", "Ping", "Recorder", "machine_of", "recorders"]


@dataclass(frozen=True, slots=True)
class Ping:
    number: int


@dataclass(frozen=True, slots=True)
class Do:
    """An input: perform these."""

    effects: tuple[Effect, ...]


class Recorder:
    """Keeps each input with the time at which it came, by its own node's clock."""

    def __init__(self) -> None:
        self.told: list[tuple[int, object]] = []

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        if isinstance(event, Do):
            return list(event.effects)
        self.told.append((now_ms, event))
        return []

    def events(self) -> list[object]:
        return [event for _, event in self.told]


def recorders(
    count: int, *, seed: int = 1, detection: Detection | None = None
) -> World:
    """A world of started nodes with one recorder each, 10 ms apart."""
    codec = Codec(
        lambda message: (32, bytes([cast("Ping", message).number])),
        lambda kind, body: Ping(body[0]),
        {Ping: 32},
    )

    def build(node: SimNode) -> tuple[Room, ...]:
        deliver = node.world.deliver[0]
        return (Room(node, Recorder(), codec, lambda event: None, deliver),)

    world = World(
        count,
        seed=seed,
        build=build,
        latency_ms=(10, 10),
        detection=detection,
        is_traced=True,
    )
    for index in range(count):
        world.start(index)
    return world


def machine_of(world: World, index: int) -> Recorder:
    """The recorder of a node."""
    return cast("Recorder", world.nodes[index].rooms[0].machine)
