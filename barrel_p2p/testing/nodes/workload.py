"""What the applications of a simulated cluster do, and what should come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any, Final, final

from barrel_p2p.errors import BarrelError
from barrel_p2p.runtime.process import Process
from barrel_p2p.testing.nodes.watch import TOPIC, Watch
from barrel_p2p.testing.nodes.world import World

__all__ = ["CROWD", "NAMES", "Workload"]

NAMES: Final = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
"""Names of services, on whichever nodes."""

CROWD: Final = 20
"""Services that one node registers in a row, each with much to be said of it."""

_PAUSE_S: Final = 0.4
_CROWD_PAUSE_S: Final = 0.005
_CROWD_META: Final = "x" * 700


@final
class Workload:
    """Services that come and go, and broadcasts.

    Args:
        world: Where.

    Attributes:
        actions: How many were begun.
    """

    def __init__(self, world: World) -> None:
        self.actions = 0
        self._world = world
        self._random = Random(world.seed ^ 0x776F726B)

    async def run(self, until_s: float) -> None:
        """Do something here and there until a true time."""
        while self._world.loop.true_s() < until_s:
            await asyncio.sleep(self._random.expovariate(1 / _PAUSE_S))
            running = self._world.running()
            if running:
                self._act(self._random.choice(running))

    async def fill(self) -> None:
        """Register every name somewhere."""
        for name in NAMES:
            index = self._random.choice(self._world.running())
            watch = self._world.watches[index]
            if name not in watch.registrations:
                await self._world.on(index, self._register(watch, name))

    async def crowd(self, watch: Watch) -> None:
        """Register many services, one soon after the other, while the node runs."""
        index = watch.node.machine.index
        for number in range(CROWD):
            if self._world.watches.get(index) is not watch:
                return
            await self._register(watch, f"crowd {number}", {"is": _CROWD_META})
            await asyncio.sleep(self._random.random() * _CROWD_PAUSE_S)

    async def clear(self) -> None:
        """Take everything back, one way or the other."""
        for index in self._world.running():
            watch = self._world.watches[index]
            for name in list(watch.registrations):
                await self._world.on(index, self._end(watch, name))

    async def broadcast_all(self) -> dict[bytes, None]:
        """One broadcast of every node; their ids."""
        world = self._world
        return {
            await world.on(i, self._broadcast(world.watches[i])): None
            for i in world.running()
        }

    def _act(self, index: int) -> None:
        self.actions += 1
        watch = self._world.watches[index]
        name = self._random.choice(NAMES)
        work: Coroutine[Any, Any, object]
        chance = self._random.random()
        if chance < 0.01:
            work = self.crowd(watch)
        elif chance < 0.3:
            work = self._broadcast(watch)
        elif name not in watch.registrations:
            work = self._register(watch, name)
        elif self._random.random() < 0.3:
            work = self._describe(watch, name)
        else:
            work = self._end(watch, name)
        self._world.spawn(index, work)

    async def _register(
        self, watch: Watch, name: str, meta: dict[str, object] | None = None
    ) -> None:
        if name in watch.registrations:
            return
        meta = meta or {"turn": self.actions}
        node = watch.node
        pid = node.spawn(_hold)
        watch.registrations[name] = registered = pid, meta
        try:
            await node.register_service(name, pid, meta)
        except BarrelError:
            if watch.registrations.get(name) == registered:
                del watch.registrations[name]
            raise

    async def _describe(self, watch: Watch, name: str) -> None:
        if name not in watch.registrations:
            return
        pid, _ = watch.registrations[name]
        meta: dict[str, object] = {"turn": self.actions}
        watch.registrations[name] = pid, meta
        await watch.node.register_service(name, pid, meta)

    async def _end(self, watch: Watch, name: str) -> None:
        pid, _ = watch.registrations.pop(name, (None, None))
        if pid is None:
            return
        if self._random.random() < 0.5:
            await watch.node.unregister_service(name)
        await pid.exit("shutdown")

    async def _broadcast(self, watch: Watch) -> bytes:
        payload = watch.mark + b"%d" % self.actions
        return await watch.node.parts.broadcast.broadcast(TOPIC, payload)


async def _hold(process: Process) -> None:
    while await process.receive() is not None:
        pass
