"""One run of reminders in the node simulator: set everywhere, heard, killed at will.

Every node hears what it owns. What was acknowledged to whoever set it has to be told;
what is told twice has to have the same fence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, final

from barrel_p2p.errors import BarrelError
from barrel_p2p.services.reminder_events import Reminder
from barrel_p2p.testing.nodes.checks import urgent_problems
from barrel_p2p.testing.nodes.loop import SimulationError
from barrel_p2p.testing.nodes.world import World

__all__ = ["Churn", "ReminderTrial", "reminder_trial"]

type Churn = Literal["none", "kill", "aimed", "all"]
"""What befalls the nodes: nothing; one is killed every few seconds and comes back; one
is killed just when it fires; or all are killed at once, and come back in any order."""

_CALM_S: Final = 60.0
_SETTLE_S: Final = 6.0
_AFTER_S: Final = 60.0  # For whatever is told late, or again.
_KILL_S: Final = 5.0
_AWAY_S: Final = (0.2, 8.0)
_LATER_S: Final = 3.0
_WRITERS: Final = 16


@final
@dataclass(frozen=True, slots=True)
class ReminderTrial:
    """What came of a seed.

    Args:
        seed: What replays it.
        acknowledged: Reminders that were acknowledged to whoever set them.
        missed: Of those, how many nobody was told of.
        doubtful: Of the missed, how many were made durable as fired by a node that was
            killed before it could tell.
        duplicate: Tellings beyond the first of each.
        other_fence: Of those, how many had another fence.
        killed: How often a node was.
        late_p99_ms: How late 99 of 100 were told at most, in true milliseconds.
        wrong: Everything else that went wrong.
        digest: The trace hash.
        cpu_s: Seconds of the processor it took.
    """

    seed: int
    acknowledged: int
    missed: int
    doubtful: int
    duplicate: int
    other_fence: int
    killed: int
    late_p99_ms: float
    wrong: tuple[str, ...]
    digest: str
    cpu_s: float


def reminder_trial(
    seed: int,
    *,
    reminders: int = 500,
    nodes: int = 5,
    churn: Churn = "none",
    acknowledge: bool = False,
    spread_s: float = 30.0,
) -> ReminderTrial:
    """Run a seed.

    Args:
        seed: Any number; it decides everything.
        reminders: How many are set.
        nodes: How many there are.
        churn: What befalls them.
        acknowledge: Handlers say when they are done.
        spread_s: True seconds from the first that is due to the last.
    """
    began_s = time.process_time()
    with (
        TemporaryDirectory(prefix="barrel-p2p-", ignore_cleanup_errors=True) as kept,
        World(seed, nodes=nodes, directory=Path(kept)) as world,
    ):
        course = _Course(
            world, reminders, churn, acknowledge=acknowledge, spread_s=spread_s
        )
        try:
            world.loop.run(course.run())
        except SimulationError as error:
            world.complain(str(error))
        return course.judged(seed, time.process_time() - began_s)


@final
class _Course:
    """The course of one run."""

    def __init__(
        self,
        world: World,
        reminders: int,
        churn: Churn,
        *,
        acknowledge: bool,
        spread_s: float,
    ) -> None:
        self._world = world
        self._reminders = reminders
        self._churn = churn
        self._acknowledge = acknowledge
        self._spread_s = spread_s
        self._acked: dict[int, float] = {}  # number -> true time at which it is due
        self._told: dict[int, list[tuple[float, int]]] = {}  # true time and fence
        self._doubtful: dict[int, None] = {}
        self._killed = 0

    async def run(self) -> None:
        world = self._world
        for machine in world.machines:
            await self._start(machine.index)
        await self._rest()
        first_s = world.loop.true_s() + _SETTLE_S
        churning = world.loop.create_task(self._befall(first_s))
        await asyncio.gather(*(self._set(first_s, w) for w in range(_WRITERS)))
        await self._until(first_s + self._spread_s)
        await churning
        await self._rest()
        end_s = world.loop.true_s() + _AFTER_S
        missing = True
        while missing and world.loop.true_s() < end_s:
            await asyncio.sleep(0.5)
            missing = any(number not in self._told for number in self._acked)
        await asyncio.sleep(_SETTLE_S)
        for index in world.running():
            await world.stop(index)
        await world.settle_tasks()

    def judged(self, seed: int, cpu_s: float) -> ReminderTrial:
        """What came of it."""
        world = self._world
        missed = [number for number in self._acked if number not in self._told]
        late = sorted(
            (tellings[0][0] - self._acked[number]) * 1_000
            for number, tellings in self._told.items()
            if number in self._acked
        )
        again = [t[1:] for t in self._told.values()]
        fences = [{fence for _, fence in t} for t in self._told.values()]
        return ReminderTrial(
            seed,
            len(self._acked),
            len(missed),
            sum(number in self._doubtful for number in missed),
            sum(map(len, again)),
            sum(len(each) - 1 for each in fences),
            self._killed,
            late[len(late) * 99 // 100] if late else 0.0,
            (*world.wrong, *world.loop.failures),
            world.network.digest(),
            cpu_s,
        )

    # What programs do.

    async def _start(self, index: int) -> None:
        await self._world.start(index)
        if index in self._world.watches:
            self._world.spawn(index, self._hear(index))

    async def _hear(self, index: int) -> None:
        world = self._world
        node, host = world.node(index), world.machines[index].host
        stream = node.reminders(acknowledge=self._acknowledge, maxsize=1 << 16)
        async for event in stream:
            if host.crashed or not isinstance(event, Reminder):
                continue
            told = self._told.setdefault(event.key, [])
            told.append((world.loop.true_s(), event.fence))
            if self._acknowledge:
                # A handler takes its time, and so can be killed before it is done.
                await asyncio.sleep(world.random.random() * 0.02)
                await node.acknowledge_reminder(event.key, event.fence)

    async def _set(self, first_s: float, writer: int) -> None:
        world = self._world
        for number in range(writer, self._reminders, _WRITERS):
            due_s = first_s + number * self._spread_s / self._reminders
            if due_s - world.loop.true_s() > _SETTLE_S:
                await self._until(due_s - _SETTLE_S)
            running = self._awake()
            if not running:
                continue  # Nobody is there to set it.
            index = running[world.random.randrange(len(running))]
            task = world.spawn(index, self._set_one(index, number, due_s))
            await asyncio.wait({task})

    async def _set_one(self, index: int, number: int, due_s: float) -> None:
        world = self._world
        node, host = world.node(index), world.machines[index].host
        left_ms = round((due_s - world.loop.true_s()) * 1_000)
        try:
            await node.remind_after(number, max(left_ms, 0), number)
        except BarrelError:
            return  # It was not acknowledged.
        if not host.crashed:
            self._acked[number] = max(due_s, world.loop.true_s())

    # What befalls them.

    async def _befall(self, first_s: float) -> None:
        if self._churn == "none":
            return
        world, returning = self._world, list[Any]()
        await self._until(first_s)
        if self._churn == "all":
            await self._kill_all()
            return
        end_s = first_s + self._spread_s
        while world.loop.true_s() < end_s:
            running = self._awake()
            if len(running) > 2:
                index = running[world.random.randrange(len(running))]
                if self._churn == "aimed":
                    await self._until_firing(index, end_s)
                if index in world.watches:
                    self._kill(index)
                    away_s = world.random.uniform(*_AWAY_S)
                    returning.append(
                        world.loop.create_task(self._return(index, away_s))
                    )
            gap_s = _KILL_S if self._churn == "kill" else world.random.random()
            await asyncio.sleep(gap_s)
        await asyncio.gather(*returning)

    async def _kill_all(self) -> None:
        world = self._world
        await asyncio.sleep(world.random.uniform(0.2, 0.5) * self._spread_s)
        for index in list(self._awake()):
            self._kill(index)
        await asyncio.sleep(world.random.uniform(*_AWAY_S))
        for index in world.random.sample(
            range(len(world.machines)), k=len(world.machines)
        ):
            await self._start(index)
            await asyncio.sleep(world.random.uniform(0.0, _LATER_S))

    async def _until_firing(self, index: int, end_s: float) -> None:
        """Wait until a node makes a firing durable, or waits for a handler."""
        world = self._world
        while world.loop.true_s() < end_s and index in world.watches:
            stats = world.node(index).parts.reminders.stats()
            before = stats.consumed + stats.delivered
            await asyncio.sleep(world.random.random() * 0.02)
            if index not in world.watches:
                return
            stats = world.node(index).parts.reminders.stats()
            if stats.consumed + stats.delivered > before:
                return

    def _kill(self, index: int) -> None:
        world = self._world
        machine = world.node(index).parts.reminders._machine
        firing = [i for i in machine._items.values() if i.state.name == "FIRING"]
        for item in firing:
            self._doubtful[item.entry.key] = None  # type: ignore[index]
        self._killed += 1
        world.crash(index)

    async def _return(self, index: int, away_s: float) -> None:
        await asyncio.sleep(away_s)
        await self._start(index)

    # Time.

    async def _until(self, true_s: float) -> None:
        await asyncio.sleep(max(true_s - self._world.loop.true_s(), 0.0))

    async def _rest(self) -> None:
        world = self._world
        began_s, held = world.loop.true_s(), 0
        while held < 3:
            await asyncio.sleep(0.5)
            held = 0 if urgent_problems(world) else held + 1
            if world.loop.true_s() - began_s > _CALM_S:
                world.complain(f"no rest: {'; '.join(urgent_problems(world))}")
                return

    def _awake(self) -> Sequence[int]:
        return self._world.running()
