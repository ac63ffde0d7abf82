"""One run of the node simulator: faults and work, calm, and what must hold then."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final, final

from barrel_p2p.testing.nodes.checks import (
    hlc_faults,
    problems,
    table_faults,
    urgent_problems,
)
from barrel_p2p.testing.nodes.finale import SPREAD_S, Finale
from barrel_p2p.testing.nodes.loop import SimulationError
from barrel_p2p.testing.nodes.moments import Moments
from barrel_p2p.testing.nodes.schedule import Faulty
from barrel_p2p.testing.nodes.workload import Workload
from barrel_p2p.testing.nodes.world import World

__all__ = [
    "CALM_S",
    "FAULTY_S",
    "LATE_S",
    "NODES",
    "PROMPT_S",
    "Trial",
    "lines_of",
    "trial",
]

NODES: Final = (3, 12)
"""Nodes of a run, from and to."""

FAULTY_S: Final = 20.0
CALM_S: Final = 80.0
"""True seconds of faults, and after them at most until all has to hold."""

PROMPT_S: Final = 20.0
"""The same for views and members, which no wrong clock and no sync delays."""

LATE_S: Final = 130.0
"""The same where clocks were set: stamps of a clock that was ahead stay ahead of others
until these have come there."""

_LOOK_S: Final = 1.0
_MOMENT_S: Final = 0.8


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a seed.

    Args:
        seed: What replays it.
        nodes: How many there were.
        wrong: Everything that did not hold; empty if it passed.
        digest: The trace hash.
        events: In the trace.
        callbacks: That ran.
        faults: What happened, and how often.
        calm_s: True seconds from the last fault until everything held.
        virtual_s: True seconds of all.
        cpu_s: Seconds of the processor it took.
    """

    seed: int
    nodes: int
    wrong: tuple[str, ...]
    digest: str
    events: int
    callbacks: int
    faults: dict[str, int]
    calm_s: float
    virtual_s: float
    cpu_s: float


def trial(seed: int, nodes: int | None = None) -> Trial:
    """Run a seed.

    Args:
        seed: Any number; it decides everything.
        nodes: How many; None lets the seed decide, ``NODES``.
    """
    began_s = time.process_time()
    if nodes is None:
        nodes = Random(~seed).randint(*NODES)
    with (
        TemporaryDirectory(prefix="barrel-p2p-", ignore_cleanup_errors=True) as kept,
        World(seed, nodes=nodes, directory=Path(kept)) as world,
    ):
        course = _Course(world)
        try:
            world.loop.run(course.run())
        except SimulationError as error:
            world.complain(str(error))
        wrong = (*world.wrong, *world.loop.failures)
        return Trial(
            seed,
            nodes,
            wrong,
            world.network.digest(),
            world.network.events,
            world.loop.callbacks,
            course.faulty.happened,
            round(course.calm_s, 3),
            round(world.loop.true_s(), 3),
            time.process_time() - began_s,
        )


def lines_of(tried: Trial) -> list[str]:
    """A run in words, for whoever replays it."""
    faults = ", ".join(f"{name} x{n}" for name, n in sorted(tried.faults.items()))
    verdict = "failed" if tried.wrong else "passed"
    return [
        f"seed {tried.seed}, {tried.nodes} nodes: {verdict}; trace {tried.digest}",
        f"faults: {faults or 'none'}",
        (
            f"calm after {tried.calm_s:.0f} s; {tried.events} events in"
            f" {tried.virtual_s:.0f} virtual s, {tried.cpu_s:.2f} s of CPU"
        ),
        *tried.wrong,
    ]


@final
class _Course:
    """The course of one run."""

    def __init__(self, world: World) -> None:
        self.faulty = Faulty(world, until_s=FAULTY_S)
        self.calm_s = 0.0
        self._world = world
        self._workload = Workload(world)

    async def run(self) -> None:
        world = self._world
        self.faulty.skew()
        starts = [world.loop.create_task(self._start(m.index)) for m in world.machines]
        working = world.loop.create_task(self._workload.run(FAULTY_S))
        looking = world.loop.create_task(self._look())
        await self.faulty.run()
        await asyncio.wait([working, *starts])
        await world.settle_tasks()
        held = await self._until_calm()
        if held:
            world.truth.is_calm = True
            has_wrong_stamps = "clock step" in self.faulty.happened
            await Finale(
                world,
                self._workload,
                self._holds,
                has_wrong_stamps=has_wrong_stamps,
            ).run()
        looking.cancel()
        for index in world.running():
            for what in hlc_faults(
                world.watches[index],
                max(
                    world.machines[index].clock.wall_ms(),
                    self.faulty.highest_wall_ms.get(index, 0),
                ),
            ):
                world.complain(what)
        for what in table_faults(world):
            world.complain(what)
        for index in world.running():
            await world.stop(index)
        await world.settle_tasks()

    async def _start(self, index: int) -> None:
        world = self._world
        await asyncio.sleep(world.random.choice((0.0, world.random.random() * 5)))
        await world.start(index)

    async def _look(self) -> None:
        """Look at every moment, more or less, until something does not hold."""
        moments, found = Moments(self._world), list[str]()
        while not found:
            await asyncio.sleep(_MOMENT_S)
            found = list(moments.faults())
        for what in found:
            self._world.complain(what)

    async def _until_calm(self) -> bool:
        """Wait until everything holds, twice in a row; whether it came to that."""
        began_s = self._world.loop.true_s()
        held = await self._holds("after the last fault", CALM_S)
        self.calm_s = self._world.loop.true_s() - began_s
        return held and await self._holds("after that", SPREAD_S)

    async def _holds(self, when: str, limit_s: float) -> bool:
        """Wait until everything holds; complain, and return False, if it does not."""
        world = self._world
        if "clock step" in self.faulty.happened:
            limit_s = LATE_S
        began_s = urgent_from_s = world.loop.true_s()
        while True:
            await asyncio.sleep(_LOOK_S)
            found = problems(world)
            if not found:
                return True
            now_s = world.loop.true_s()
            waited_s = now_s - began_s
            if not urgent_problems(world):
                urgent_from_s = now_s
            if waited_s >= limit_s or now_s - urgent_from_s >= PROMPT_S:
                for what in found:
                    world.complain(f"{waited_s:.0f} s {when}, {what}")
                return False
