"""What befalls a simulated cluster: faults drawn from a seed, each with its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final, final

from barrel_p2p.errors import BarrelError
from barrel_p2p.testing.nodes.world import World
from barrel_p2p.testing.overlay.faults import Faults

__all__ = ["RATE_MAX", "STEP_MS_MAX", "Faulty"]

STEP_MS_MAX: Final = 120_000
"""How far a wall clock is set wrong, either way."""

RATE_MAX: Final = 0.1
"""How much faster or slower a machine's clocks run."""


@final
class Faulty:
    """All faults of one run.

    Args:
        world: What they befall.
        until_s: True time at which the last of them is over.
        step_ms_max: How far a wall clock is set wrong.

    Attributes:
        happened: Names of the faults, with how often.
        highest_wall_ms: What each machine's wall clock has shown at most.
    """

    def __init__(
        self, world: World, *, until_s: float, step_ms_max: int = STEP_MS_MAX
    ) -> None:
        self.happened: dict[str, int] = {}
        self.highest_wall_ms: dict[int, int] = {}
        self._world = world
        self._random: Random = world.random
        self._until_s = until_s
        self._step_ms_max = step_ms_max
        self._mends: list[Callable[[], None]] = []
        self._busy: dict[int, None] = {}  # frozen, down or about to be

    def skew(self) -> None:
        """Let the clocks of some machines run fast or slow. Before they start."""
        if self._random.random() < 0.5:
            return
        for machine in self._world.machines:
            rate = 1 + self._random.uniform(-RATE_MAX, RATE_MAX)
            machine.clock.rate = machine.host.rate = rate
        self._count("drift")

    async def run(self) -> None:
        """Let faults happen until the time is over, and mend them all."""
        kinds: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._losses,
            self._partition,
            self._one_way,
            self._swizzle,
            self._pause,
            self._crash,
            self._crash,
            self._restart,
            self._clock,
            self._deaf,
            self._leave,
            self._waver,
        ]
        chosen = self._random.sample(kinds, self._random.randint(2, 6))
        running: list[asyncio.Task[None]] = []
        while self._left_s() > 1.0:
            await asyncio.sleep(self._random.uniform(0.2, 3.0))
            fault = self._random.choice(chosen)
            running.append(self._world.loop.create_task(fault()))
        for task in running:
            await task
        await self._mend()

    async def _mend(self) -> None:
        world = self._world
        for mend in self._mends:
            mend()
        for machine in world.machines:
            self._see_wall(machine.index)
            machine.clock.set_right()
            self._see_wall(machine.index)

    # Faults. Each ends by itself before the time is over.

    async def _losses(self) -> None:
        draw = self._random.random
        self._count("losses")
        self._world.network.faults = Faults(
            loss=0.5 * draw() ** 2,
            duplicate=0.2 * draw(),
            reorder=0.3 * draw(),
            hold_ms=200,
            jitter_ms=self._random.choice((0, 5, 100)),
        )
        await self._last(0.5, 8.0)
        self._world.network.faults = Faults()

    async def _partition(self) -> None:
        self._count("partition")
        count = len(self._world.machines)
        cut = self._random.randint(1, count - 1)
        order = self._random.sample(range(count), count)
        some, others = order[:cut], order[cut:]
        mend = self._world.cut([(a, b) for a in some for b in others])
        back = self._world.cut([(b, a) for a in some for b in others])
        await self._last(0.2, 15.0)
        mend()
        back()

    async def _one_way(self) -> None:
        self._count("one-way")
        a, b = self._random.sample(range(len(self._world.machines)), 2)
        mend = self._world.cut([(a, b)])
        await self._last(0.2, 15.0)
        mend()

    async def _swizzle(self) -> None:
        # Cut off one machine after the other, and mend in another order.
        self._count("swizzle")
        count = len(self._world.machines)
        order = self._random.sample(range(count), self._random.randint(1, count))
        mends = []
        for index in order:
            pairs = [(index, other) for other in range(count) if other != index]
            pairs += [(b, a) for a, b in pairs]
            mends.append(self._world.cut(pairs))
            await self._last(0.0, 1.0)
        self._random.shuffle(mends)
        for mend in mends:
            await self._last(0.0, 1.5)
            mend()

    async def _pause(self) -> None:
        index = self._free()
        if index is None:
            return
        self._count("pause")
        self._world.freeze(index)
        await self._last(0.1, 12.0)
        self._world.thaw(index)
        self._busy.pop(index, None)

    async def _crash(self) -> None:
        index = self._free()
        if index is None:
            return
        self._count("crash")
        self._world.crash(index, answers=self._random.random() < 0.7)
        if self._random.random() < 0.15 and len(self._world.running()) > 2:
            self._count("crash for good")
            return
        await self._last(0.0, 8.0)
        await self._world.start(index)
        self._busy.pop(index, None)

    async def _restart(self) -> None:
        index = self._free()
        if index is None:
            return
        self._count("restart")
        await self._world.stop(index)
        await self._last(0.0, 3.0)
        await self._world.start(index)
        self._busy.pop(index, None)

    async def _clock(self) -> None:
        machine = self._random.choice(self._world.machines)
        limit = self._step_ms_max
        scale = min(self._random.choice((2_000, 20_000, STEP_MS_MAX)), limit)
        self._count("clock step")
        self._see_wall(machine.index)
        machine.clock.step_ms += self._random.randint(-scale, scale)
        machine.clock.step_ms = max(-limit, min(machine.clock.step_ms, limit))
        self._see_wall(machine.index)
        await self._last(0.5, 8.0)
        self._see_wall(machine.index)
        machine.clock.step_ms = 0

    async def _deaf(self) -> None:
        # Dials one way fail, while what is up stays up.
        self._count("deaf")
        a, b = self._random.sample(self._world.machines, 2)
        deaf = self._world.network.deaf
        deaf[a.index, b.index] = deaf.get((a.index, b.index), 0) + 1
        await self._last(1.0, 10.0)
        deaf[a.index, b.index] -= 1

    async def _leave(self) -> None:
        index = self._free()
        if index is None:
            return
        self._count("leave")
        world = self._world
        await world.leave(index)
        await self._last(0.0, 5.0)
        world.spawn(index, _join(world, index))
        self._busy.pop(index, None)

    async def _waver(self) -> None:
        # Told to leave while it is still joining, and to join while it leaves.
        index = self._free()
        if index is None:
            return
        self._count("waver")
        world = self._world
        for _ in range(self._random.randint(2, 4)):
            await world.leave(index)
            await self._last(0.0, 0.2)
            world.spawn(index, _join(world, index))
            await self._last(0.0, 0.4)
        self._busy.pop(index, None)

    # What they share.

    def _count(self, name: str) -> None:
        self.happened[name] = self.happened.get(name, 0) + 1

    def _free(self) -> int | None:
        """A machine whose node runs and that nothing else befalls, for this fault."""
        free = [index for index in self._world.running() if index not in self._busy]
        if not free:
            return None
        index = self._random.choice(free)
        self._busy[index] = None
        return index

    def _left_s(self) -> float:
        return self._until_s - self._world.loop.true_s()

    async def _last(self, least_s: float, most_s: float) -> None:
        wanted_s = self._random.uniform(least_s, most_s)
        await asyncio.sleep(max(min(wanted_s, self._left_s()), 0.0))

    def _see_wall(self, index: int) -> None:
        shown_ms = self._world.machines[index].clock.wall_ms()
        self.highest_wall_ms[index] = max(
            shown_ms, self.highest_wall_ms.get(index, shown_ms)
        )


async def _join(world: World, index: int) -> None:
    """Join again through whoever answers."""
    watch = world.watches[index]
    while world.watches.get(index) is watch and not watch.node.active_view():
        others = [i for i in world.running() if i != index]
        if others:
            try:
                await world.join(index, world.random.choice(others), timeout=5.0)
            except BarrelError:
                await asyncio.sleep(0.5)
        else:
            await asyncio.sleep(0.5)
