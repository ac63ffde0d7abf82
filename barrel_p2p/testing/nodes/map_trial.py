"""One run of replicated maps in the node simulator: faults, rest, and what must be."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final, final

from barrel_p2p.testing.nodes.checks import urgent_problems
from barrel_p2p.testing.nodes.loop import SimulationError
from barrel_p2p.testing.nodes.mapping import Mapping
from barrel_p2p.testing.nodes.schedule import Faulty
from barrel_p2p.testing.nodes.world import World

__all__ = ["MapTrial", "map_trial"]

_NODES: Final = (3, 7)
_FAULTY_S: Final = 25.0
_CALM_S: Final = 260.0  # Stamps of a clock that was ahead stay ahead so long.
_LOOK_S: Final = 1.0


@final
@dataclass(frozen=True, slots=True)
class MapTrial:
    """What came of a seed.

    Args:
        seed: What replays it.
        nodes: How many there were.
        acknowledged: Writes that were.
        superseded: Of those to keys that all write, how many gave way to a write whose
            writer had not seen them (D7).
        revived: Removed keys that somebody came back with, and that were told again.
        wrong: Everything that did not hold; empty if it passed. Among it are writes to
            keys of one writer that were lost, or undone by who was away (D3, D6, D7).
        digest: The trace hash.
        cpu_s: Seconds of the processor it took.
    """

    seed: int
    nodes: int
    acknowledged: int
    superseded: int
    revived: int
    wrong: tuple[str, ...]
    digest: str
    cpu_s: float


def map_trial(seed: int) -> MapTrial:
    """Run a seed.

    Args:
        seed: Any number; it decides everything.
    """
    began_s = time.process_time()
    nodes = Random(~seed).randint(*_NODES)
    with (
        TemporaryDirectory(prefix="barrel-p2p-", ignore_cleanup_errors=True) as kept,
        World(seed, nodes=nodes, directory=Path(kept)) as world,
    ):
        mapping = Mapping(world)
        try:
            world.loop.run(_course(world, mapping))
        except SimulationError as error:
            world.complain(str(error))
        return MapTrial(
            seed,
            nodes,
            mapping.acknowledged,
            mapping.superseded,
            mapping.revived,
            (*world.wrong, *world.loop.failures),
            world.network.digest(),
            time.process_time() - began_s,
        )


async def _course(world: World, mapping: Mapping) -> None:
    faulty = Faulty(world, until_s=_FAULTY_S)
    faulty.skew()
    for machine in world.machines:
        await world.start(machine.index)
    looking = world.loop.create_task(mapping.look())
    writing = world.loop.create_task(mapping.run(_FAULTY_S))
    failing = world.loop.create_task(mapping.disks(_FAULTY_S))
    await faulty.run()
    await asyncio.wait([writing, failing])
    await _rest(world, mapping)
    mapping.count()
    looking.cancel()
    for index in world.running():
        await world.stop(index)
    await world.settle_tasks()


async def _rest(world: World, mapping: Mapping) -> None:
    """Wait until everything holds; complain if it does not come to that."""
    began_s = world.loop.true_s()
    while True:
        await asyncio.sleep(_LOOK_S)
        found = [*urgent_problems(world), *mapping.problems()]
        if not found:
            return
        waited_s = world.loop.true_s() - began_s
        if waited_s > _CALM_S:
            for what in found:
                world.complain(f"{waited_s:.0f} s after the last fault, {what}")
            return
