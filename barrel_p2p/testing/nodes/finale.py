"""What is done to a cluster at rest, one thing at a time, and how soon all know of it.

While faults happen everything may be late. Here nothing is wrong but what was done, so
that the times and reasons that are promised can be held against a clock. Everything
holds before each deed, or two halves of the views could not tell each other of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, final

from barrel_p2p.services.member_machine import CHECK_MS
from barrel_p2p.testing.nodes.checks import service_faults
from barrel_p2p.testing.nodes.schedule import RATE_MAX
from barrel_p2p.testing.nodes.workload import Workload
from barrel_p2p.testing.nodes.world import World

__all__ = ["LEFT_S", "REPAIR_S", "SEVERED_S", "SPREAD_S", "Finale", "dead_s"]

REPAIR_S: Final = 4.0
"""True seconds for what is gossiped, also where it meets a tree in repair."""

SPREAD_S: Final = 10.0
"""The same until all holds: a look may come while two nodes change their views."""

LEFT_S: Final = 1.0
"""The same until all know that a node has left."""

SEVERED_S: Final = 3.0
"""For how long two nodes cannot reach each other, while all others reach both."""

_WAYS_S: Final = 0.5  # All ways through the cluster, there and back.
_RUNNING_MIN: Final = 3


def dead_s(*, idle_ms: int, suspect_ms: int, answers: bool) -> float:
    """True seconds until all know that a process has died, by the slowest clock.

    Args:
        idle_ms: ``idle_timeout_ms``.
        suspect_ms: As in the configuration.
        answers: Its machine refuses what comes for it; else it is as silent as a host
            that was switched off.

    Source: docs/concepts/members.md, "From a crash to a verdict".
    """
    noticed_ms = idle_ms / 3 if answers else idle_ms
    slow_s = (noticed_ms + CHECK_MS + suspect_ms) / 1_000 / (1 - RATE_MAX)
    return slow_s + _WAYS_S


@final
class Finale:
    """The end of a run.

    Args:
        world: At rest.
        workload: What its applications did.
        holds: Waits until everything holds: when, and for how many true seconds.
        has_wrong_stamps: Clocks were set. Stamps of one that was ahead stay ahead until
            the others have come there, and what follows them is news no sooner.
    """

    def __init__(
        self,
        world: World,
        workload: Workload,
        holds: Callable[[str, float], Awaitable[bool]],
        *,
        has_wrong_stamps: bool,
    ) -> None:
        self._world = world
        self._workload = workload
        self._holds = holds
        self._has_wrong_stamps = has_wrong_stamps

    async def run(self) -> None:
        """Do all of it, as long as it goes well."""
        deeds = (
            self._tell,
            self._sever,
            self._crowd,
            self._stop_one,
            self._kill_one,
            self._clear,
        )
        for deed in deeds:
            if not await deed():
                return

    async def _tell(self) -> bool:
        """All who are connected get each other's broadcasts, and find services."""
        world = self._world
        ids = await self._workload.broadcast_all()
        await asyncio.sleep(REPAIR_S)
        missed = False
        for index in world.running():
            watch = world.watches[index]
            missing = sum(1 for message in ids if message not in watch.delivered)
            if missing:
                missed = True
                world.complain(f"{watch.node.name} misses {missing} of {len(ids)}")
        await self._workload.fill()
        return not missed and await self._services_spread("registering")

    async def _sever(self) -> bool:
        """Two nodes that others reach are no less members for losing each other."""
        world = self._world
        pairs = list(self._spare_pairs())
        if not pairs:
            return True
        a, b = world.random.choice(pairs)
        mend = world.sever(a, b)
        await asyncio.sleep(SEVERED_S)
        well = True
        for index in world.running():
            if suspects := world.node(index).suspects():
                world.complain(f"{world.node(index).name} still suspects {suspects}")
                well = False
        mend()
        return well and await self._holds("after two lost each other", SPREAD_S)

    async def _crowd(self) -> bool:
        """Much is written at once, and none of it lost on its way."""
        world = self._world
        index = world.random.choice(world.running())
        await world.on(index, self._workload.crowd(world.watches[index]))
        return await self._services_spread("registering many")

    async def _stop_one(self) -> bool:
        """Whoever stops in good order has left at once, and is welcome again."""
        world = self._world
        if len(world.running()) < _RUNNING_MIN:
            return True
        index = world.random.choice(world.running())
        name = world.node(index).name
        await world.stop(index)
        await asyncio.sleep(LEFT_S)
        if not self._all_know(name, ("left",), f"{LEFT_S} s after it has stopped"):
            return False
        await world.start(index)
        return await self._holds("after a restart", SPREAD_S)

    async def _kill_one(self) -> bool:
        """Whoever is killed is dead everywhere in time, and so are its services."""
        world = self._world
        spare = [i for i in world.running() if self._is_connected_without(i)]
        if len(world.running()) < _RUNNING_MIN or not spare:
            return True
        index = world.random.choice(spare)
        answers = world.random.random() < 0.5
        node = world.node(index)
        limit_s = dead_s(
            idle_ms=node.config.idle_timeout_ms,
            suspect_ms=node.config.suspect_ms,
            answers=answers,
        )
        world.crash(index, answers=answers)
        await asyncio.sleep(limit_s)
        when = f"{limit_s:.1f} s after it was killed, and answers: {answers}"
        known = self._all_know(node.name, ("unreachable", "expired"), when)
        return known and await self._holds("after a crash", SPREAD_S)

    async def _clear(self) -> bool:
        await self._workload.clear()
        return await self._services_spread("unregistering")

    # Looking.

    async def _services_spread(self, what: str) -> bool:
        await asyncio.sleep(REPAIR_S)
        faults = [] if self._has_wrong_stamps else list(service_faults(self._world))
        for fault in faults:
            self._world.complain(f"{REPAIR_S} s after {what}, {fault}")
        return not faults and await self._holds(f"after {what}", SPREAD_S)

    def _all_know(self, name: str, reasons: tuple[str, ...], when: str) -> bool:
        well = True
        for index in self._world.running():
            watch = self._world.watches[index]
            why = watch.reasons.get(name)
            found = [service for service, node in watch.services if node == name]
            if name in watch.node.members() or why not in reasons or found:
                well = False
                self._world.complain(
                    f"{watch.node.name} has the members {watch.node.members()}, holds"
                    f" {name} for {why} and finds {found} of it, {when}"
                )
        return well

    def _links(self) -> dict[int, set[int]]:
        """Who is whose peer."""
        world = self._world
        names = {world.node(index).name: index for index in world.running()}
        return {
            index: {names[peer] for peer in world.node(index).active_view()}
            for index in world.running()
        }

    def _is_connected_without(self, index: int) -> bool:
        links = self._links()
        del links[index]
        return _is_connected({i: to - {index} for i, to in links.items()})

    def _spare_pairs(self) -> Iterator[tuple[int, int]]:
        """Pairs with a channel that all others stay connected without."""
        links = self._links()
        for a in links:
            channels = self._world.node(a).nodes()
            for b in links:
                if a < b and self._world.node(b).name in channels:
                    without = {**links, a: links[a] - {b}, b: links[b] - {a}}
                    if _is_connected(without):
                        yield a, b


def _is_connected(links: dict[int, set[int]]) -> bool:
    reached: set[int] = set()
    border = list(links)[:1]
    while border:
        index = border.pop()
        if index not in reached:
            reached.add(index)
            border.extend(sorted(links[index]))
    return len(reached) == len(links)
