"""One run of elections in the node simulator: faults, rest, a kill, a pause."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final, final

from barrel_p2p.testing.nodes.checks import urgent_problems
from barrel_p2p.testing.nodes.finale import dead_s
from barrel_p2p.testing.nodes.leading import Leading
from barrel_p2p.testing.nodes.loop import SimulationError
from barrel_p2p.testing.nodes.schedule import Faulty
from barrel_p2p.testing.nodes.world import World

__all__ = ["AT_REST_S", "LeaderTrial", "leader_trial"]

AT_REST_S: Final = 3.0
"""True seconds after everybody knows everybody again, until one leads."""

_NODES: Final = (3, 9)
_CALM_S: Final = 90.0
_LOOK_S: Final = 0.5
_STEP_MS_MAX: Final = 25_000  # Two clocks stay within hlc_max_drift_ms of each other.
_SETTLED_S: Final = 12.0  # From the first start until candidates stand, and one leads.
_HEARD_S: Final = 0.5  # To hear of a death is not yet to have begun a term.


@final
@dataclass(frozen=True, slots=True)
class LeaderTrial:
    """What came of a seed.

    Args:
        seed: What replays it.
        nodes: How many there were.
        terms: How many began.
        fences: What was wrong with their fences (C1).
        stale: Writes that came too late for their fence, and were refused (C2).
        went_back: Resources that took one all the same (C2).
        acted: Leaders that acted after they stood still (C3).
        late: Deaths of a leader after which nobody led in time (C3).
        failovers_ms: From each such death to the next term, beyond the verdict's time
            if positive.
        at_rest: What did not hold at rest (C4).
        wrong: Everything else that went wrong.
        digest: The trace hash.
        cpu_s: Seconds of the processor it took.
    """

    seed: int
    nodes: int
    terms: int
    fences: tuple[str, ...]
    stale: int
    went_back: tuple[str, ...]
    acted: tuple[str, ...]
    late: tuple[str, ...]
    failovers_ms: tuple[float, ...]
    at_rest: tuple[str, ...]
    wrong: tuple[str, ...]
    digest: str
    cpu_s: float

    @property
    def failed(self) -> bool:
        """Whether anything was not as it has to be."""
        return bool(
            self.fences
            or self.went_back
            or self.acted
            or self.late
            or self.at_rest
            or self.wrong
        )


def leader_trial(
    seed: int, *, names: int = 3, faulty_s: float = 20.0, deeds: bool = True
) -> LeaderTrial:
    """Run a seed.

    Args:
        seed: Any number; it decides everything.
        names: How many there are to lead.
        faulty_s: True seconds of faults; 0 for none.
        deeds: Kill a leader afterwards, and let another one stand still.
    """
    began_s = time.process_time()
    nodes = Random(~seed).randint(*_NODES)
    with (
        TemporaryDirectory(prefix="barrel-p2p-", ignore_cleanup_errors=True) as kept,
        World(seed, nodes=nodes, directory=Path(kept)) as world,
    ):
        course = _Course(world, names, faulty_s, deeds=deeds)
        try:
            world.loop.run(course.run())
        except SimulationError as error:
            world.complain(str(error))
        leading = course.leading
        return LeaderTrial(
            seed,
            nodes,
            leading.terms,
            tuple(leading.faults["C1"]),
            sum(resource.stale for resource in leading.resources.values()),
            tuple(name for name, r in leading.resources.items() if r.went_back),
            tuple(leading.faults["C3"]),
            tuple(course.late),
            tuple(course.failovers_ms),
            tuple(course.at_rest),
            (*world.wrong, *world.loop.failures),
            world.network.digest(),
            time.process_time() - began_s,
        )


@final
class _Course:
    """The course of one run."""

    def __init__(
        self, world: World, names: int, faulty_s: float, *, deeds: bool
    ) -> None:
        self.leading = Leading(world, names)
        self.at_rest: list[str] = []
        self.late: list[str] = []
        self.failovers_ms: list[float] = []
        self._world = world
        self._faulty_s = faulty_s
        self._deeds = deeds

    async def run(self) -> None:
        world = self._world
        faulty = Faulty(world, until_s=self._faulty_s, step_ms_max=_STEP_MS_MAX)
        if self._faulty_s:
            faulty.skew()
        for machine in world.machines:
            await world.start(machine.index)
        looking = world.loop.create_task(self.leading.look())
        campaigns = world.loop.create_task(self.leading.run(self._faulty_s))
        await (faulty.run() if self._faulty_s else asyncio.sleep(_SETTLED_S))
        await campaigns
        rested = await self._rest("after the last fault")
        if rested and self._deeds:
            await self._kill(answers=True)
            await self._kill(answers=False)
            await self._freeze()
        looking.cancel()
        for index in world.running():
            await world.stop(index)
        await world.settle_tasks()

    async def _rest(self, when: str) -> bool:
        """Wait until all know each other, and ``AT_REST_S`` more; then one leads."""
        world, held = self._world, 0.0
        began_s = world.loop.true_s()
        while held < AT_REST_S:
            await asyncio.sleep(_LOOK_S)
            held = 0.0 if urgent_problems(world) else held + _LOOK_S
            if world.loop.true_s() - began_s > _CALM_S:
                found = "; ".join(urgent_problems(world))
                self.at_rest.append(f"no rest {_CALM_S} s {when}: {found}")
                return False
        found_wrong = self.leading.problems()
        self.at_rest += [f"{when}, {what}" for what in found_wrong]
        return not found_wrong

    async def _kill(self, *, answers: bool) -> None:
        """A leader's process dies, or its host: another one leads in time."""
        world, leading = self._world, self.leading
        led = self._somebody_s()
        if led is None:
            return
        index, names = led
        config = world.node(index).config
        limit_s = _HEARD_S + dead_s(
            idle_ms=config.idle_timeout_ms,
            suspect_ms=config.suspect_ms,
            answers=answers,
        )
        killed_s = world.loop.true_s()
        world.crash(index, answers=answers)
        while world.loop.true_s() < killed_s + limit_s:
            if all(leading.elected_s.get(name, 0.0) > killed_s for name in names):
                break
            await asyncio.sleep(0.02)
        for name in names:
            began_s = leading.elected_s.get(name, 0.0)
            if began_s > killed_s:
                self.failovers_ms.append((began_s - killed_s) * 1_000)
            else:
                self.late.append(
                    f"nobody led {name} {limit_s:.1f} s after machine {index} died,"
                    f" and answers: {answers}"
                )
        await world.start(index)
        await self._rest("after a kill")

    async def _freeze(self) -> None:
        """A leader stands still until another one leads, and goes on."""
        world = self._world
        led = self._somebody_s()
        if led is None:
            return
        index, _ = led
        config = world.node(index).config
        world.freeze(index)
        still_ms = config.idle_timeout_ms + config.member_ttl_ms
        await asyncio.sleep(still_ms / 1_000)
        world.thaw(index)
        await self._rest("after a pause")

    def _somebody_s(self) -> tuple[int, list[str]] | None:
        """A machine that leads, and what it leads that others stand for, too."""
        world = self._world
        led: dict[int, list[str]] = {}
        for name in self.leading.names:
            for index in self.leading.leaders(name):
                if len(world.node(index).candidates(name)) > 1:
                    led.setdefault(index, []).append(name)
        if not led or len(world.running()) < 3:
            return None
        index = world.random.choice(sorted(led))
        return index, led[index]
